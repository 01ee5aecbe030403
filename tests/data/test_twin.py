"""Episode files: exact round trips, and every way in which a file can be wrong."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vap_sim.data.twin import TwinEpisode, episode_files, iterate_episodes, load_episode, save_episode
from vap_sim.errors import BadFile, UnknownName

MEMBERS = (
    "frames", "objects", "plate", "robot", "labels", "flow", "joints", "measured", "actions", "object_poses",
)  # fmt: skip
META = {
    "seed": 7, "behaviours": ["push"], "robot": "panda_robotiq", "control_mode": "joint_velocity", "control_dt": 0.2,
    "scene": {"objects": [], "goal": None}, "cameras": [{"name": "exterior_1"}],
}  # fmt: skip


def make_episode(seed: int = 0, views: int = 2, length: int = 4, size: int = 6, objects: int = 3) -> TwinEpisode:
    rng = np.random.default_rng(seed)

    def pixels(*shape: int) -> np.ndarray:
        return rng.integers(0, 256, shape, np.uint8)

    return TwinEpisode(
        frames=pixels(views, length, size, size, 3),
        objects=pixels(views, length, size, size, 4),
        plate=pixels(views, size, size, 3),
        robot=pixels(views, length, size, size),
        labels=pixels(views, length, size, size),
        flow=rng.integers(-(2**15), 2**15, (views, length, 2, size // 2, size // 2), np.int16),
        joints=rng.normal(size=(length, 8)).astype(np.float32),
        measured=rng.normal(size=(length, 8)).astype(np.float32),
        actions=rng.normal(size=(length - 1, 8)).astype(np.float32),
        object_poses=rng.normal(size=(length, objects, 7)).astype(np.float32),
        meta=META,
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_episode(tmp_path / "a.vap.npz", make_episode())
    return tmp_path / "a.vap.npz"


def rewrite(path: Path, change: Callable[[dict[str, bytes]], None], method: int = zipfile.ZIP_DEFLATED) -> None:
    """Write the archive again with its members changed, so that nothing but the change is wrong with it."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def npy(values: np.ndarray, version: tuple[int, int] | None = None) -> bytes:
    content = io.BytesIO()
    np.lib.format.write_array(content, values, version)
    return content.getvalue()


def equal(one: TwinEpisode, other: TwinEpisode, names: tuple[str, ...] = MEMBERS) -> bool:
    pairs = [(getattr(one, name), getattr(other, name)) for name in names]
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in pairs)


def test_round_trip_is_exact(tmp_path: Path) -> None:
    for seed in range(3):
        episode = make_episode(seed, views=1 + seed, length=2 + seed)
        save_episode(tmp_path / "e.vap.npz", episode)
        again = load_episode(tmp_path / "e.vap.npz")
        assert equal(again, episode) and again.meta == episode.meta and again.length == 2 + seed
        again.flow[:], again.frames[:] = 0, 0  # what was read belongs to the reader


def test_cameras_that_move_have_a_plate_a_frame(tmp_path: Path) -> None:
    still = make_episode(length=5, size=8)
    plates = np.random.default_rng(9).integers(0, 256, (1, 5, 8, 8, 3), np.uint8)
    for name, episode in (("still", still), ("moving", replace(still, plates=plates))):
        save_episode(tmp_path / f"{name}.vap.npz", episode)
        again = load_episode(tmp_path / f"{name}.vap.npz")
        assert equal(again, episode) and again.plates.ndim == 5 and len(again.plates) == len(episode.plates)
        assert np.array_equal(again.plates, plates) == (name == "moving")
        with zipfile.ZipFile(tmp_path / f"{name}.vap.npz") as archive:
            assert json.loads(archive.read("meta.json"))["format"] == (2 if name == "moving" else 1)
            assert ("plates.npy" in archive.namelist()) == (name == "moving")
    assert load_episode(tmp_path / "still.vap.npz", only=("plates",)).plates.size == 0
    short = replace(still, plates=plates[:, :4])
    save_episode(tmp_path / "short.vap.npz", short)
    with pytest.raises(BadFile, match="plates: shape"):
        load_episode(tmp_path / "short.vap.npz")


def test_equal_episodes_make_equal_files(path: Path) -> None:
    save_episode(path.with_name("b.vap.npz"), make_episode())
    assert path.with_name("b.vap.npz").read_bytes() == path.read_bytes()
    save_episode(path.with_name("b.vap.npz"), load_episode(path))
    assert path.with_name("b.vap.npz").read_bytes() == path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}  # no clock


def test_numpy_opens_the_file_without_pickle(path: Path) -> None:
    with np.load(path, allow_pickle=False) as archive:
        assert np.array_equal(archive["joints"], make_episode().joints)
        assert np.array_equal(np.cumsum(archive["frames"], axis=1, dtype=np.uint8), make_episode().frames)


@pytest.mark.parametrize("only", [("frames",), ("joints", "flow"), ("actions",), (), MEMBERS])
def test_reading_some_members_only(path: Path, only: tuple[str, ...]) -> None:
    part = load_episode(path, only)
    assert equal(part, make_episode(), only)
    assert all(getattr(part, name).size == 0 for name in set(MEMBERS) - set(only))


def test_asking_for_an_unknown_member_names_the_nearest(path: Path) -> None:
    with pytest.raises(UnknownName, match=r"'frame'\. Did you mean 'frames'"):
        load_episode(path, ("frame",))


def test_a_failed_write_leaves_what_was_there(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()

    def refuse(*arguments: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np.lib.format, "write_array", refuse)
        with pytest.raises(OSError, match="No space left"):
            save_episode(path, make_episode(1))
    assert path.read_bytes() == before and list(path.parent.iterdir()) == [path]


def test_missing_file_and_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="no such file"):
        load_episode(tmp_path / "none.vap.npz")
    with pytest.raises(BadFile, match="no episode files"):
        episode_files(tmp_path)


def test_folders_are_read_in_the_order_of_names(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name, seed in (("b", 1), ("deep/c", 2), ("a", 0)):
        save_episode(tmp_path / f"{name}.vap.npz", make_episode(seed))
    (tmp_path / "d.vap.npz.partial").write_bytes(b"half")
    assert [equal(e, make_episode(seed)) for seed, e in enumerate(iterate_episodes(tmp_path))] == [True] * 3


def test_every_truncation_is_noticed(path: Path) -> None:
    whole = path.read_bytes()
    for size in (0, 1, 100, len(whole) // 3, len(whole) // 2, len(whole) - 40, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(BadFile, match=r"a\.vap\.npz: not a whole episode file"):
            load_episode(path)


def test_no_damaged_byte_goes_unnoticed(path: Path) -> None:
    """A flipped byte raises BadFile or changes nothing (names and dates have unused bits); nothing else escapes."""
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    noticed = 0
    for place in rng.choice(len(whole), 120, replace=False):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            again = load_episode(path)
        except BadFile:
            noticed += 1
        else:
            assert equal(again, make_episode()) and again.meta == META
    assert noticed > 80


@pytest.mark.parametrize("name", MEMBERS)
def test_a_missing_member_is_named(path: Path, name: str) -> None:
    def drop(members: dict[str, bytes]) -> None:
        del members[f"{name}.npy"]

    rewrite(path, drop)
    with pytest.raises(BadFile, match=f": {name}: missing"):
        load_episode(path)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("joints", npy(np.zeros((4, 8))), "joints: float64 with 2 axes, expected float32 with 2"),
        ("frames", npy(np.zeros((4, 6, 6, 3), np.uint8)), "frames: uint8 with 4 axes, expected uint8 with 5"),
        ("joints", npy(np.zeros((8, 4), np.float32).T), "columns first"),
        ("joints", npy(np.array([{}, "code"], object)), "joints: object with 1 axes"),
        ("joints", npy(np.zeros((4, 8), np.float32), (2, 0)), r"joints: not an array .* \(version \(2, 0\)\)"),
        ("joints", b"not an array", "joints: not an array of numpy's format"),
        ("joints", npy(np.zeros((4, 8), np.float32))[:-3], r"joints: 125 bytes for shape \(4, 8\)"),
        ("joints", npy(np.zeros((4, 8), np.float32)) + b"more", r"joints: 132 bytes for shape \(4, 8\)"),
        ("labels", npy(np.zeros((2, 3, 6, 6), np.uint8)), "labels: shape .*, expected 4 where it has 3"),
        ("labels", npy(np.zeros((1, 4, 6, 6), np.uint8)), "labels: shape .*, expected 2 where it has 1"),
        ("objects", npy(np.zeros((2, 4, 6, 6, 3), np.uint8)), "objects: shape .*, expected 4 where it has 3"),
        ("plate", npy(np.zeros((2, 6, 8, 3), np.uint8)), "plate: shape .*, expected 6 where it has 8"),
        ("flow", npy(np.zeros((2, 4, 2, 6, 6), np.int16)), "flow: shape .*, expected 3 where it has 6"),
        ("measured", npy(np.zeros((4, 7), np.float32)), "measured: shape .*, expected 8 where it has 7"),
        ("actions", npy(np.zeros((4, 8), np.float32)), "actions: shape .*, expected 3 where it has 4"),
        ("object_poses", npy(np.zeros((5, 1, 7), np.float32)), "object_poses: shape .*, expected 4 where it has 5"),
    ],
)
def test_a_member_of_another_type_or_shape_is_named(path: Path, name: str, content: bytes, words: str) -> None:
    rewrite(path, lambda members: members.update({f"{name}.npy": content}))
    with pytest.raises(BadFile, match=words):
        load_episode(path)


def test_a_header_that_claims_a_huge_array_allocates_nothing(path: Path) -> None:
    honest = npy(np.zeros((4, 8), np.float32))
    claimed = honest.replace(b"(4, 8), }" + b" " * 9, b"(4, 2000000000), }")
    assert len(claimed) == len(honest) and claimed != honest
    rewrite(path, lambda members: members.update({"joints.npy": claimed}))
    with pytest.raises(BadFile, match=r"joints: 128 bytes for shape \(4, 2000000000\)"):
        load_episode(path)


def test_a_member_that_unpacks_to_more_than_it_claims_is_refused(path: Path) -> None:
    """A megabyte behind a claim of 160 bytes; the claim stands twice, in both headers of the member."""
    bomb = bytes(1_234_567)
    rewrite(path, lambda members: members.update({"joints.npy": bomb}), zipfile.ZIP_LZMA)
    content = path.read_bytes().replace(len(bomb).to_bytes(4, "little"), (160).to_bytes(4, "little"))
    path.write_bytes(content)
    with pytest.raises(BadFile, match="joints: damaged"):
        load_episode(path, ("joints",))


def test_a_member_that_claims_to_be_huge_is_not_read(path: Path) -> None:
    size = len(npy(make_episode().joints))
    content = path.read_bytes()
    start = content.rindex(b"joints.npy") - 46  # the central directory's record
    assert int.from_bytes(content[start + 24 : start + 28], "little") == size
    path.write_bytes(content[: start + 24] + (2**32 - 2).to_bytes(4, "little") + content[start + 28 :])
    with pytest.raises(BadFile, match="joints: larger than"):
        load_episode(path)


def test_an_encrypted_member_is_refused(path: Path) -> None:
    content = bytearray(path.read_bytes())
    for header, place in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        start = -1
        while (start := content.find(header, start + 1)) >= 0:
            content[start + place] |= 1
    path.write_bytes(content)
    with pytest.raises(BadFile, match=r"meta\.json: damaged"):
        load_episode(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"{", "meta.json: not JSON"),
        (b"\xff\xfe", "meta.json: not JSON"),
        (b"[" * 100_000, "meta.json: not JSON"),
        (b"[]", "meta.json: this reader knows format 1"),
        (json.dumps({**META, "format": 3}).encode(), "meta.json: this reader knows format 1 and 2"),
        (json.dumps({**META, "format": True}).encode(), "meta.json: this reader knows format 1 and 2"),
        (json.dumps({**META, "format": 2}).encode(), "meta.json: field 'delta' must be"),
        (json.dumps({**META, "format": 1, "delta": ["frames"]}).encode(), "meta.json: field 'delta' must be"),
    ],
)
def test_foreign_descriptions_are_refused(path: Path, text: bytes, words: str) -> None:
    rewrite(path, lambda members: members.update({"meta.json": text}))
    with pytest.raises(BadFile, match=words):
        load_episode(path)


@pytest.mark.parametrize("field", sorted(META))
def test_a_missing_field_of_the_description_is_named(path: Path, field: str) -> None:
    def drop(members: dict[str, bytes]) -> None:
        meta = json.loads(members["meta.json"])
        del meta[field]
        members["meta.json"] = json.dumps(meta).encode()

    rewrite(path, drop)
    with pytest.raises(BadFile, match=f"meta.json: field '{field}' is missing"):
        load_episode(path)
