"""What docs/robots.md says of shipped robots is what their folders say, and every robot has its picture."""

from __future__ import annotations

import runpy
from pathlib import Path

import cv2

from vap_sim.robots.library import load_robot, robot_names

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_section_is_the_one_that_is_made() -> None:
    made = runpy.run_path(str(DOCS / "make_robots_page.py"))
    text = (DOCS / "robots.md").read_text(encoding="utf-8")
    again = "run: python docs/make_robots_page.py"
    assert (
        made["BEGIN"] + text.partition(made["BEGIN"])[2].partition(made["END"])[0] + made["END"] == made["section"]()
    ), again


def test_pictures_show_what_they_should() -> None:
    """As many cells as the robot has cameras and two, as many rows as poses; small enough for a checkout."""
    made = runpy.run_path(str(DOCS / "make_robots_page.py"))
    side = made["SIDE"]
    for name in robot_names():
        model, path = load_robot(name), DOCS / "images" / f"robot_{name}.png"
        assert path.stat().st_size < 100_000
        height, width = cv2.imread(str(path)).shape[:2]
        own = [side * camera.size[0] // camera.size[1] for camera in model.cameras.values()]
        assert height == (side + 2) * (1 if model.gripper is None else 2)
        assert width == sum(cell + 2 for cell in (side, side, *own))


def test_the_whole_view_holds_the_whole_robot() -> None:
    made = runpy.run_path(str(DOCS / "make_robots_page.py"))
    for name in robot_names():
        model = load_robot(name)
        camera, poses = made["whole_view"](model), model.robot.forward(model.home)
        for visual in model.robot.visuals:
            corners = poses.new_tensor(visual.vertices) @ poses[visual.link, :3, :3].T + poses[visual.link, :3, 3]
            xy, depth = camera.project(corners)
            assert bool((depth > 0).all() & (xy > 0).all() & (xy < made["SIDE"] - 1).all()), name
