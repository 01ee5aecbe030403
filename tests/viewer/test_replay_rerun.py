"""rerun recordings, opened again by rerun's own reader: every picture, curve and pose is there, at its step."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.viewer.replay_scenes import scene
from vap_sim.errors import MissingDependency
from vap_sim.robots.library import load_robot
from vap_sim.viewer.replay_lanes import Scene
from vap_sim.viewer.replay_rerun import APPLICATION, entity, write_rrd


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return scene(tmp_path_factory.mktemp("clips"), "scaled@0.5")


def rows_of(path: Path, entity_path: str, component: str) -> dict[int, Any]:
    """Values of a component by step."""
    from rerun.chunk import RrdReader

    found: dict[int, Any] = {}
    for chunk in RrdReader(str(path)).stream().to_chunks():
        if chunk.entity_path != entity_path:
            continue
        table = chunk.to_record_batch()
        names = table.schema.names
        if component in names and "step" in names:
            steps = table.column(names.index("step")).to_pylist()
            found |= dict(zip(steps, table.column(names.index(component)).to_pylist(), strict=True))
    return found


def test_everything_is_in_it(shown: Scene, tmp_path: Path) -> None:
    pytest.importorskip("rerun", reason="rerun-sdk is not installed (extra rerun)")
    from rerun.chunk import RrdReader

    path = tmp_path / "a.rrd"
    write_rrd(path, shown)
    assert [one.name for one in tmp_path.iterdir()] == ["a.rrd"]
    (told,) = RrdReader(str(path)).recordings()
    assert (told.application_id, told.recording_id) == (APPLICATION, shown.name)
    assert len(RrdReader(str(path)).blueprints()) == 1
    for place, frames in (("recorded", shown.clip.frames[0]), ("dream/echo", shown.lanes[0].replayed.dreamt.numpy())):
        blobs = rows_of(path, f"/{place}", "EncodedImage:blob")
        assert sorted(blobs) == list(range(7))
        for step, blob in blobs.items():
            picture = cv2.imdecode(np.asarray(blob[0], np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
            assert np.abs(picture.astype(int) - frames[step]).mean() < 6
    for lane in shown.lanes:
        for name, figure in lane.figures.items():
            values = rows_of(path, f"/figures/{name}/{entity(lane.name)}", "Scalars:scalars")
            assert {step - 1: value[0] for step, value in values.items()} == {
                step: pytest.approx(float(figure.values[step])) for step in range(6) if bool(figure.defined[step])
            }


def test_the_robot_stands_in_space_as_it_was_told(shown: Scene, tmp_path: Path) -> None:
    pytest.importorskip("rerun", reason="rerun-sdk is not installed (extra rerun)")
    import torch

    path, model = tmp_path / "a.rrd", load_robot("panda_robotiq")
    write_rrd(path, shown)
    for lane in shown.lanes:
        found = rows_of(path, f"/space/{entity(lane.name)}/points", "Points3D:positions")
        expected = model.skeleton.positions(model.robot, model.robot.forward(torch.from_numpy(lane.joints))).numpy()
        assert sorted(found) == list(range(7))
        for step, places in found.items():
            assert np.allclose(np.asarray(places), expected[step], atol=1e-5)


def test_names_of_lanes_are_parts_of_a_path() -> None:
    assert entity("a/b, scaled@0.5") == "a_b__scaled_0.5"


def test_without_rerun_the_extra_is_named(shown: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(MissingDependency, match=r"rerun-sdk is not installed; .*pip install 'vap-sim\[rerun\]'"):
        write_rrd(tmp_path / "a.rrd", shown)
    assert not list(tmp_path.iterdir())
