"""Recordings of motion that are no good are named, whichever films are made of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from vap_sim.data.twin import TwinEpisode, save_episode
from vap_sim.errors import BadFile
from vap_sim.training.contact_films import load_contact_films
from vap_sim.training.motion_films import load_motion_films

Load = Callable[..., Any]
LOADERS = [
    pytest.param(load_contact_films, id="contact"),
    pytest.param(partial(load_motion_films, profile_name="compact"), id="motion"),
]


def _meta(**change: Any) -> Callable[[TwinEpisode], TwinEpisode]:
    return lambda episode: replace(episode, meta={**episode.meta, **change})


@pytest.mark.parametrize("load", LOADERS)
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_meta(robot="pandas"), "scene, robot or outlines cannot be used .*unknown robot 'pandas'"),
        (_meta(cameras=[{}]), "cameras cannot be used"),
        (_meta(cameras=None), "cameras cannot be used"),
        (_meta(cameras=[]), "cameras cannot be used .there are none"),
        (_meta(robot="widowx"), r"cannot be used .InvalidInput.*\bq: given|cannot be used .*joints q"),
        (_meta(scene={"objects": []}), "scene, robot or outlines cannot be used"),
        (_meta(outlines=[]), "scene, robot or outlines cannot be used"),
        (
            lambda e: replace(e, meta={k: v for k, v in e.meta.items() if k != "outlines"}),
            "cannot be used .KeyError.'outlines'",
        ),
    ],
)
def test_bad_recordings_are_named(
    load: Load, change: Callable[[TwinEpisode], TwinEpisode], words: str, recording: TwinEpisode, tmp_path: Path
) -> None:
    path = tmp_path / "bad.vap.npz"
    save_episode(path, change(recording))
    with pytest.raises(BadFile, match=rf"bad\.vap\.npz: meta\.json.*(?:{words})"):
        load([path], progress=False)


@pytest.mark.parametrize("load", LOADERS)
def test_no_files_and_half_files_are_named(load: Load, tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="the data set: no episode files"):
        load([])
    (tmp_path / "half.vap.npz").write_bytes(b"PK")
    with pytest.raises(BadFile, match=r"half\.vap\.npz: not a whole episode file"):
        load([tmp_path / "half.vap.npz"], progress=False)
