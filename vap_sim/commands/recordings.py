"""The recordings a command trains on: which are learned from, which are kept to be shown, and how large they are."""

from __future__ import annotations

from pathlib import Path

from vap_sim.errors import BadFile, InvalidInput


def split_episodes(folder: Path, validation: int) -> tuple[list[Path], list[Path]]:
    """The files of episodes to learn from, and the last `validation` files, which are kept.

    Split by file: the views of one episode are either all learned from or all kept. Raises BadFile for a folder without
    episodes, InvalidInput, which names the option, where one of the two would be empty.
    """
    from vap_sim.data.twin import episode_files

    files = episode_files(folder)
    if not 0 < validation < len(files):
        raise InvalidInput("--validation", validation, f"at least 1 and fewer than the {len(files)} episodes")
    return files[:-validation], files[-validation:]


def picture_size(path: Path) -> tuple[int, int]:
    """(width, height) [px] of an episode's pictures. Raises BadFile."""
    from vap_sim.data.twin import load_episode
    from vap_sim.robots.camera import Camera

    meta = load_episode(path, only=()).meta
    try:
        return Camera.from_dict(meta["cameras"][0]).size
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise BadFile(path, f"meta.json: cameras cannot be used ({error!r})") from error
