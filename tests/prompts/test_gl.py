"""The renderer of machines with a GL library: the software renderer's pictures, and errors where a part is absent."""

from __future__ import annotations

import builtins
import sys
from typing import Any

import numpy as np
import pytest
import torch

from vap_sim.errors import MissingDependency
from vap_sim.prompts import Prompter, gl, profile, render_robot
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import RobotModel, load_robot


@pytest.fixture(scope="module")
def panda() -> RobotModel:
    return load_robot("panda_robotiq")


def draw_or_skip(model: RobotModel, q: torch.Tensor, cameras: list[Camera], **options: Any) -> Any:
    try:
        return render_robot(model, q, cameras, backend="gl", **options)
    except MissingDependency as error:
        pytest.skip(str(error))


def test_the_same_pictures_as_the_software_renderer(panda: RobotModel) -> None:
    noise = torch.randn(1, 2, len(panda.home), generator=torch.Generator().manual_seed(1))
    q = panda.robot.clamp(panda.home + 0.3 * noise)
    inside = Camera.look_at("inside", (0.0, 0.0, 0.3), (0.5, 0.0, 0.5), size=(128, 128), focal_px=90.0)
    away = Camera.look_at("away", (2.0, 0.0, 0.5), (4.0, 0.0, 0.5), size=(128, 128), focal_px=90.0)
    cameras = [panda.camera("exterior_1"), panda.camera("wrist"), inside, away]
    theirs, ours = draw_or_skip(panda, q, cameras), render_robot(panda, q, cameras)
    assert not hasattr(np, "infty")
    both = theirs.mask & ours.mask
    assert both.sum() > 0.998 * (theirs.mask | ours.mask).sum()
    difference = (theirs.depth - ours.depth)[both].abs()
    assert float(difference.quantile(0.998)) < 1e-3
    colors = (theirs.rgb.int() - ours.rgb.int()).abs()
    assert colors.float().mean() < 1
    assert (colors > 60).float().mean() < 1e-3
    assert not theirs.mask[:, 3].any() and not theirs.rgb[:, 3].any()


def test_without_pyrender_the_error_names_the_extra(panda: RobotModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyrender", None)
    with pytest.raises(MissingDependency, match=r"pyrender is not installed; .*vap-sim\[gl\]"):
        render_robot(panda, panda.home[None, None], [panda.camera("wrist")], backend="gl")
    by_profile = Prompter(panda, DrawGl.PROFILE, (128, 128))
    with pytest.raises(MissingDependency, match="The renderer 'software' does without"):
        by_profile.draw(panda.home[None, None], [panda.camera("wrist")])


class DrawGl:
    """A profile that asks for GL, and a pyrender that finds none."""

    PROFILE = profile("mesh").from_dict({**profile("mesh").to_dict(), "backend": "gl"})

    class OffscreenRenderer:
        def __init__(self, width: int, height: int) -> None:
            raise ValueError(f"no canvas of {width} x {height}")


def test_without_a_gl_library_the_error_says_what_is_needed(panda: RobotModel, monkeypatch: pytest.MonkeyPatch) -> None:
    camera = panda.camera("wrist")
    monkeypatch.setitem(sys.modules, "pyrender", DrawGl)  # type: ignore[arg-type]
    with pytest.raises(MissingDependency, match=r"GL library .* EGL or OSMesa, .*no canvas of 384 x 384"):
        render_robot(panda, panda.home[None, None], [camera], backend="gl")
    monkeypatch.delitem(sys.modules, "pyrender")
    whole = builtins.__import__

    def broken(name: str, *others: Any, **more: Any) -> Any:
        if name == "pyrender":
            raise OSError("libEGL.so.1 cannot be opened")
        return whole(name, *others, **more)

    monkeypatch.setattr(builtins, "__import__", broken)
    with pytest.raises(MissingDependency, match=r"GL library .*libEGL\.so\.1 cannot be opened"):
        render_robot(panda, panda.home[None, None], [camera], backend="gl")


def test_numpys_old_name_is_there_only_meanwhile() -> None:
    assert not hasattr(np, "infty")
    with gl._old_names_of_numpy():
        assert np.infty == np.inf  # type: ignore[attr-defined]  # noqa: NPY201
        with gl._old_names_of_numpy():
            pass
        assert np.infty == np.inf  # type: ignore[attr-defined]  # noqa: NPY201
    assert not hasattr(np, "infty")
