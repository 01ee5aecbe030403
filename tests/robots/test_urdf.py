"""Reading URDF files: what is refused, with whose name, and where meshes may lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vap_sim.errors import BadFile, Unsupported
from vap_sim.robots.kinematics import Robot
from vap_sim.robots.urdf import read_urdf

LIMIT = '<limit lower="-1" upper="1" velocity="2" effort="1"/>'
TURNED = (
    '<link name="a"><visual><origin rpy="0 0 1.5707963267948966"/>'
    '<geometry><mesh filename="{}" scale="2 1 1"/></geometry></visual></link>'
)
TWO = '<link name="a"/><link name="b"/>'


def write(folder: Path, body: str) -> Path:
    path = folder / "robot.urdf"
    path.write_text(f'<robot name="toy">{body}</robot>')
    return path


def joint(name: str = "j", parent: str = "a", child: str = "b", kind: str = "revolute", inside: str = LIMIT) -> str:
    return f'<joint name="{name}" type="{kind}"><parent link="{parent}"/><child link="{child}"/>{inside}</joint>'


def visual(shape: str) -> str:
    return f'<link name="a"><visual><geometry>{shape}</geometry></visual></link>'


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("<link", "not a readable URDF"),
        (TWO + '<link name="a"/>', "two links share the name 'a'"),
        (TWO + '<link name="c"/>' + joint() + joint(child="c"), "two joints share the name 'j'"),
        (TWO + joint(child="c"), "joint 'j' names the link 'c', which does not exist"),
        (TWO + joint() + joint("k"), "link 'b' has two parents: 'j', 'k'"),
        (TWO, r"2 root links \(a, b\)"),
        (TWO + joint() + joint("k", "b", "a"), "cycle of links"),
        (
            '<link name="r"/>' + TWO + joint() + joint("k", "b", "a"),
            "joint 'j' lies on a cycle",
        ),
        (TWO + joint(kind="screw"), "joint 'j' has the unknown type 'screw'"),
        (TWO + joint(inside=LIMIT + '<axis xyz="0 0 0"/>'), "joint 'j' has the axis"),
        (TWO + joint(inside=""), "joint 'j' has no limit for lower, upper, velocity"),
        (TWO + joint(inside='<limit lower="0" upper="1"/>'), "joint 'j' has no limit for velocity"),
        (TWO + joint(inside=LIMIT.replace('"-1"', '"3"')), "joint 'j' has limits 3.0..1.0"),
        (TWO + joint(inside=LIMIT + '<origin xyz="0 nan 0"/>'), "joint 'j' has an origin that is not finite"),
        (TWO + joint(inside='<mimic joint="x"/>'), "joint 'j' mimics 'x', which is no moving joint"),
        (
            TWO + '<link name="c"/>' + joint("leader") + joint("k", "a", "c", inside='<mimic joint="laeder"/>'),
            "joint 'k' mimics 'laeder', which is no moving joint: .* Did you mean 'leader'",
        ),
        (TWO + joint(inside='<mimic joint="j"/>'), "joint 'j' mimics itself through 'j'"),
        (visual('<mesh filename="../secret.obj"/>'), "link 'a' has the mesh '../secret.obj', which leaves the folder"),
        (visual('<mesh filename="/etc/passwd"/>'), "which leaves the folder"),
        (visual('<mesh filename="package://../../x.obj"/>'), "which leaves the folder"),
        (
            visual('<mesh filename="package://p/none.obj"/>'),
            "link 'a' has the mesh 'package://p/none.obj', which does not",
        ),
    ],
)
def test_bad_files_are_named(tmp_path: Path, body: str, words: str) -> None:
    with pytest.raises(BadFile, match=words):
        Robot.from_urdf(write(tmp_path, body))


@pytest.mark.parametrize("kind", ["floating", "planar"])
def test_joints_without_one_value_are_refused(tmp_path: Path, kind: str) -> None:
    with pytest.raises(Unsupported, match=f"joint 'j' is {kind}"):
        Robot.from_urdf(write(tmp_path, TWO + joint(kind=kind)))


def test_missing_file_and_entities(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match=r"none\.urdf: cannot be read"):
        Robot.from_urdf(tmp_path / "none.urdf")
    path = tmp_path / "bomb.urdf"
    for encoding in ("utf-8", "utf-16"):
        path.write_text('<!DOCTYPE r [<!ENTITY a "b">]><robot name="r"><link name="a"/></robot>', encoding=encoding)
        with pytest.raises(BadFile, match=r"bomb\.urdf: has a DOCTYPE"):
            Robot.from_urdf(path)


@pytest.mark.parametrize("name", ["mesh.obj", "package://mesh.obj", "package://toy/mesh.obj"])
def test_meshes_are_found_below_the_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "mesh.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 2 3\nf 1 2 4\nf 1 3 4\nf 2 3 4\n")
    path = write(tmp_path, TURNED.format(name))
    (shape,) = Robot.from_urdf(path).visuals
    assert sorted(map(tuple, shape.vertices.round(6) + 0.0)) == [(-1, 0, 0), (0, 0, 0), (0, 0, 1), (0, 2, 0)]


def test_wider_mesh_root(tmp_path: Path) -> None:
    (tmp_path / "urdf").mkdir()
    (tmp_path / "mesh.obj").write_text("v 0 0 0\n")
    path = write(tmp_path / "urdf", visual('<mesh filename="../mesh.obj"/>'))
    assert read_urdf(path, mesh_root=tmp_path).shapes[0].mesh == (tmp_path / "mesh.obj").resolve()


def test_unreadable_mesh(tmp_path: Path) -> None:
    (tmp_path / "mesh.obj").write_text("nothing\n")
    with pytest.raises(BadFile, match=r"mesh\.obj: is not a readable mesh"):
        _ = Robot.from_urdf(write(tmp_path, visual('<mesh filename="mesh.obj"/>'))).visuals


@pytest.mark.parametrize(
    ("shape", "extent"),
    [
        ('<box size="1 2 3"/>', (1, 2, 3)),
        ('<sphere radius="0.5"/>', (1, 1, 1)),
        ('<cylinder radius="0.5" length="3"/>', (1, 1, 3)),
    ],
)
def test_primitive_visuals_fill_their_box(tmp_path: Path, shape: str, extent: tuple[float, ...]) -> None:
    link = (
        '<link name="a"><visual><origin xyz="5 0 0" rpy="0 0 1.5707963267948966"/>'
        f'<geometry>{shape}</geometry><material name="m"><color rgba="1 0 0 1"/></material></visual></link>'
    )
    (got,) = Robot.from_urdf(write(tmp_path, link)).visuals
    x, y, z = extent
    np.testing.assert_allclose(np.ptp(got.vertices, axis=0), (y, x, z), atol=1e-6)
    np.testing.assert_allclose((got.vertices.max(0) + got.vertices.min(0)) / 2, (5, 0, 0), atol=1e-6)
    assert got.color == (1, 0, 0, 1)
