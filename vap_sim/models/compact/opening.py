"""Which compact world a caller's options mean: that of one camera that stands still, or that of several cameras."""

from __future__ import annotations

from pathlib import Path

from vap_sim.errors import InvalidInput, UnknownName
from vap_sim.models.compact.model import WEIGHTS, CompactWorld, rate_of, read_weights
from vap_sim.models.compact.views import CompactViews
from vap_sim.models.protocol import WorldModel

BODIES = WEIGHTS.with_name("bodies.safetensors")
"""Weights of four bodies, before cameras that stand still or move; those of the Panda alone are truer to it."""
MOVED_BY = ("touch", "sight")
"""What may move things; see `CompactWorlds.load`."""


class CompactWorlds:
    """The compact worlds under one name."""

    STILL = WEIGHTS
    """Weights where no camera moves, if no others are given."""

    @classmethod
    def load(
        cls,
        path: Path | str | None = None,
        *,
        device: str = "cpu",
        demonstration: Path | str | None = None,
        views: int = 1,
        moving: bool = False,
        table_height: float = 0.0,
        frame_rate: float | None = None,
        moved_by: str | None = None,
    ) -> WorldModel:
        """The world of a weights file, by default one that ships with the package.

        Args:
            path: the file; by default `STILL`, or where a camera moves `BODIES`. device: where it dreams.
            demonstration: a file of `demonstration.save_demonstration`, for worlds that are shown clips.
            views: cameras seen at once, 1 to 4.
            moving: whether a camera moves; a single one may only then.
            table_height: of the table in the base frame [m], for what the robot reaches, objects that only one camera
                sees, and cameras that move.
            frame_rate: pictures a second of dreamt time [Hz]; by default what the weights were trained on. At another
                rate the skeletons still tell where the robot is in every frame, but what objects do is guessed from
                motion of another pace: `model.UntrainedRate` warns of it.
            moved_by: what moves things, one of `MOVED_BY`: "touch" knows where bones and things are in space, and needs
                a table that is where `table_height` says, to a centimetre; "sight" looks at the drawn skeleton, and
                forgives 6 cm. By default "touch" where the weights have learned it and nothing is demonstrated.

        Raises BadFile, InvalidInput for a number of views or a rate that cannot be or weights that are not moved so,
        and UnknownName for another `moved_by`.
        """
        if moved_by is not None and moved_by not in MOVED_BY:
            raise UnknownName("moved_by of the compact world", moved_by, MOVED_BY)
        path = (BODIES if moving else cls.STILL) if path is None else Path(path)
        if isinstance(views, bool) or not isinstance(views, int) or not 1 <= views <= 4:
            raise InvalidInput("views of the compact world", views, "1 to 4")
        network, description, watching = read_weights(path, demonstration)
        profile, rate = str(description.get("profile", "compact")), rate_of(description, frame_rate, path)
        in_space = network.config.contact and watching is None and moved_by != "sight"
        if moved_by == "touch" and not in_space:
            given = "shown demonstrations" if watching is not None else f"of {path}, which never learned it"
            raise InvalidInput("moved_by of the compact world", f"'touch' for a world {given}", "'sight'")
        network = network if in_space else network.by_sight()
        if views == 1 and not moving and not in_space:
            return CompactWorld(
                network, profile, device, demonstration=watching, frame_rate=rate, table_height=table_height
            )
        return CompactViews(
            network,
            profile,
            device,
            views=views,
            table_height=table_height,
            frame_rate=rate,
            hears_moving=bool(description.get("moving_views", False)),
            demonstration=watching,
        )


class BodiesWorlds(CompactWorlds):
    """The compact worlds under the name of the weights that know every shipped station's body."""

    STILL = BODIES
