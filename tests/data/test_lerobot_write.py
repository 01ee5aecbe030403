"""Writing LeRobot datasets: whole or not at all, what broke off goes on, and what does not fit is named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="LeRobot's tables are Parquet")

from tests.data.episodes import assert_equal, episode
from vap_sim.data.dataset import Refused, open_dataset, read_all
from vap_sim.data.episode import Episode
from vap_sim.data.film import FilmSettings
from vap_sim.data.footage import ArrayFootage, VideoFootage
from vap_sim.data.lerobot_write import LeRobotSettings, write_lerobot
from vap_sim.errors import BadFile, InvalidInput

SETTINGS = LeRobotSettings(FilmSettings(lossless=True, key_every=30), episodes_a_file=2)
EXACT = LeRobotSettings(FilmSettings(lossless=True), precision="float64")
LENGTHS = (4, 3, 5)


def takes() -> list[Episode]:
    return [episode(k, length=LENGTHS[k]) for k in range(3)]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lerobot(tmp_path_factory.mktemp("set") / "ours", takes(), SETTINGS)


@pytest.mark.parametrize("length", [1, 2])
def test_the_shortest_episodes(tmp_path: Path, length: int) -> None:
    path = write_lerobot(tmp_path / "set", [episode(1, length)], SETTINGS)
    given = open_dataset(path).read("take 1")
    assert given.length == length and given.success and given.views["wrist"].length == length


def test_odd_sizes_are_kept(tmp_path: Path) -> None:
    shown = np.random.default_rng(0).integers(60, 120, (3, 33, 47, 3)).astype(np.uint8)
    for number, settings in enumerate((SETTINGS, LeRobotSettings())):
        path = write_lerobot(
            tmp_path / str(number), [episode(0, 3, views={"top": ArrayFootage(shown)}, cameras={})], settings
        )
        given = np.stack(list(open_dataset(path).read("take 0").views["top"].frames()))
        assert given.shape == shown.shape and np.abs(given.astype(int) - shown).max() <= (0 if number == 0 else 60)


def test_the_twin_is_exported(tmp_path: Path) -> None:
    """Recordings of the twin, read as episodes, are LeRobot's after, cameras and all."""
    from tests.data.reader_samples import twin

    twin(tmp_path / "twin")
    source = open_dataset(tmp_path / "twin")
    path = write_lerobot(tmp_path / "set", (source.read(name) for name in source.names), EXACT)
    for name, given in zip(source.names, read_all(open_dataset(path)), strict=True):
        assert isinstance(given, Episode)
        assert_equal(given, source.read(name), but=("frame_rate",))
        assert given.frame_rate == pytest.approx(source.read(name).frame_rate)


class Stopped(Exception):
    pass


def stopping(after: int) -> Iterator[Episode]:
    yield from takes()[:after]
    raise Stopped


@pytest.mark.parametrize("after", [0, 1, 2])
def test_what_broke_off_is_not_there_and_goes_on(tmp_path: Path, written: Path, after: int) -> None:
    """Parts that are whole are kept, and the end is the same as in one go."""
    path = tmp_path / "set"
    with pytest.raises(Stopped):
        write_lerobot(path, stopping(after), SETTINGS)
    assert not path.exists()
    with pytest.raises(Stopped):
        write_lerobot(path, stopping(after), SETTINGS)
    kept = {p: p.stat().st_mtime_ns for p in (tmp_path / "set.partial").rglob("*.mp4")} if after == 2 else {}
    write_lerobot(path, iter(takes()), SETTINGS)
    assert not (tmp_path / "set.partial").exists()
    for old, changed in kept.items():
        new = path / old.relative_to(tmp_path / "set.partial")
        assert "file-001" in new.name or new.stat().st_mtime_ns == changed
    for expected, given in zip(read_all(open_dataset(written)), read_all(open_dataset(path)), strict=True):
        assert isinstance(expected, Episode) and isinstance(given, Episode)
        assert_equal(given, expected)
    for name in ("info.json", "stats.json", "vap_sim.json"):
        assert (path / "meta" / name).read_text() == (written / "meta" / name).read_text()
    assert {p.relative_to(path) for p in path.rglob("*")} == {p.relative_to(written) for p in written.rglob("*")}


def test_what_broke_off_goes_on_with_the_same_only(tmp_path: Path) -> None:
    def broken(first: Episode) -> Iterator[Episode]:
        yield from (first, *takes()[1:])
        raise Stopped

    with pytest.raises(Stopped):
        write_lerobot(tmp_path / "set", broken(takes()[0]), SETTINGS)
    with pytest.raises(InvalidInput, match="other episodes or settings"):
        write_lerobot(tmp_path / "set", takes(), LeRobotSettings(SETTINGS.film, episodes_a_file=1))
    with pytest.raises(InvalidInput, match="'other' of 4 frames, expected 'take 0' of 4 frames"):
        write_lerobot(tmp_path / "set", [episode(0, 4, "other")], SETTINGS)
    with pytest.raises(InvalidInput, match="given the end, expected 'take 1'"):
        write_lerobot(tmp_path / "set", takes()[:1], SETTINGS)


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ({"frame_rate": 10.0}, "frame rate of episode 'take 1': given 10, expected 5"),
        ({"joints": None}, "columns of episode 'take 1'"),
        ({"success": None}, "columns of episode 'take 1'"),
        ({"robot": None}, "robot of episode 'take 1'"),
        ({"views": {"wrist": ArrayFootage(np.zeros((3, 8, 8, 3), np.uint8))}}, "views of episode 'take 1'"),
        ({"name": "take 0"}, "'take 0' again"),
        ({"frame_rate": 7.5}, "7.5 frames a second, expected a whole number"),
        ({"action_names": ("x",)}, "1 names of actions"),
        ({"views": {"../up": ArrayFootage(np.zeros((3, 8, 8, 3), np.uint8))}}, "view '../up'"),
    ],
)
def test_episodes_must_be_alike(tmp_path: Path, second: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        write_lerobot(tmp_path / "set", [takes()[0], episode(1, 3, **second)], SETTINGS)
    assert not (tmp_path / "set").exists()


def test_pictures_that_do_not_fit_their_log(tmp_path: Path) -> None:
    for count, words in ((4, "more than 3 frames"), (2, "2 frames for 3 rows")):
        wrong = episode(0, 3, views={"top": ArrayFootage(np.zeros((count, 8, 8, 3), np.uint8))}, cameras={})
        with pytest.raises(BadFile, match=f"'take 0', view 'top': {words}"):
            write_lerobot(tmp_path / f"set {count}", [wrong], SETTINGS)
    missing = episode(0, 3, views={"top": VideoFootage(tmp_path / "none.mp4")}, cameras={})
    with pytest.raises(BadFile, match=r"none\.mp4"):
        write_lerobot(tmp_path / "other", [missing], SETTINGS)


def test_a_place_that_is_taken_and_nothing_to_write(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="a path where nothing is"):
        write_lerobot(tmp_path, takes(), SETTINGS)
    with pytest.raises(InvalidInput, match="no episodes"):
        write_lerobot(tmp_path / "set", [], SETTINGS)
    assert not (tmp_path / "set").exists()


def test_memory_is_that_of_one_episode(tmp_path: Path) -> None:
    """Episodes are taken one by one, and none is kept when the next is asked for."""
    import gc
    import weakref

    alive: list[weakref.ref[Episode]] = []
    most = 0

    def many() -> Iterator[Episode]:
        nonlocal most
        for number in range(6):
            made = episode(number, 2, name=f"take {number}")
            alive.append(weakref.ref(made))
            gc.collect()
            most = max(most, sum(ref() is not None for ref in alive))
            yield made
            del made

    path = write_lerobot(tmp_path / "set", many(), SETTINGS)
    assert most <= 2 and not any(isinstance(given, Refused) for given in read_all(open_dataset(path)))
