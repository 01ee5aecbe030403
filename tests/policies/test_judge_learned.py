"""The learned judge: rows as if alone, saved and loaded the same, doubt with a reason, and true pictures judged."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vap_sim.envs.start import load_start
from vap_sim.errors import BadFile, InvalidInput
from vap_sim.models.checkpoint import load_tensors, save_tensors
from vap_sim.policies.judge import Evidence, Verdict, single
from vap_sim.policies.judge_calibration import Calibration
from vap_sim.policies.judge_learned import WEIGHTS, LearnedJudge
from vap_sim.policies.judge_looking import named_color
from vap_sim.policies.judge_margins import TASKS

SHIPPED = LearnedJudge.load()
STARTS = [load_start(f"{task}_0{index}") for task in TASKS for index in range(2)]


def evidence() -> Evidence:
    """What six starts show, of each task two."""
    rows = [
        single(s.frames[0].numpy(), s.frames[:1].numpy(), s.joints, s.cameras[0], s.name[:-3], s.instruction)
        for s in STARTS
    ]
    first = rows[0]
    return replace(
        first,
        first=np.concatenate([row.first for row in rows]),
        last=np.concatenate([row.last for row in rows]),
        joints=np.concatenate([row.joints for row in rows]),
        cameras=tuple(row.cameras[0] for row in rows),
        tasks=tuple(row.tasks[0] for row in rows),
        instructions=tuple(row.instructions[0] for row in rows),
    )


def test_nothing_is_done_at_a_start() -> None:
    verdicts = SHIPPED.judge(evidence())
    assert [verdict.yes for verdict in verdicts] == [False] * len(STARTS)
    assert sum(verdict.no for verdict in verdicts) >= 5


def test_a_row_is_judged_as_it_would_be_alone() -> None:
    every = evidence()
    whole = SHIPPED.judge(every)
    alone = LearnedJudge.load()
    for row in range(len(every)):
        assert_same(alone.judge(every.rows([row])), whole[row : row + 1])
    assert_same(SHIPPED.judge(every.rows([3, 0])), (whole[3], whole[0]))


def assert_same(some: Sequence[Verdict], others: Sequence[Verdict]) -> None:
    """The same answers; a batch of another size rounds sums differently in the last digits."""
    assert [own.answer for own in some] == [own.answer for own in others]
    assert [own.probability for own in some] == pytest.approx([own.probability for own in others], abs=1e-4)


def test_first_pictures_are_remembered_and_never_mistaken() -> None:
    judge, every = LearnedJudge.load(), evidence()
    before = judge.scores(every)
    assert judge.scores(every) == pytest.approx(before, abs=1e-5)
    swapped = judge.scores(replace(every, first=every.first[::-1].copy()))
    assert swapped == pytest.approx(
        LearnedJudge.load().scores(replace(every, first=every.first[::-1].copy())), abs=1e-4
    )
    assert np.abs(swapped - before).max() > 0.1
    with pytest.raises(InvalidInput, match="one of these colours"):
        judge.scores(replace(every, instructions=("push it",) * len(every)))


def test_saved_and_loaded_it_judges_the_same(tmp_path: Path) -> None:
    path = SHIPPED.save(tmp_path / "judge.safetensors", note="a copy")
    assert LearnedJudge.load(path).judge(evidence()) == SHIPPED.judge(evidence())
    assert path.stat().st_size < 2_000_000


def test_sent_to_another_process_it_judges_the_same() -> None:
    sent = pickle.dumps(SHIPPED)
    assert pickle.loads(sent).judge(evidence()) == SHIPPED.judge(evidence())
    assert len(sent) < 2_000_000


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("name", ["push_00", "push_01", "pick_place_00", "pick_place_01"])
def test_an_object_on_the_disc_is_told_from_one_beside_it(name: str, beside: bool) -> None:
    pytest.importorskip("pybullet", reason="true pictures need the twin")
    from vap_sim.envs.scenes import Scene, with_pose
    from vap_sim.envs.twin_episode import Episode

    start = load_start(name)
    assert start.scene is not None
    scene = Scene.from_dict(start.scene)
    assert scene.goal is not None
    side = 0.2 if beside else 0.0
    moved = with_pose(scene, 0, scene.goal[0], scene.goal[1] - np.sign(scene.goal[1]) * side, 0.3)
    episode = Episode(moved, SHIPPED.model, start.joints.double().numpy())
    try:
        picture = episode.look(start.cameras)[0].rgb
    finally:
        episode.close()
    pictures = np.stack([picture, picture])
    task = name[:-3]
    verdict = SHIPPED.judge(
        single(start.frames[0].numpy(), pictures, start.joints, start.cameras[0], task, start.instruction)
    )[0]
    assert verdict.answer is not beside, verdict
    assert verdict.probability is not None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tasks": ("fold",) * 6}, "is none of reach, push, pick_place"),
        ({"instructions": ("push it onto the disc",) * 6}, "does not name one of these colours"),
        ({"instructions": ("push the red cube to the blue one",) * 6}, "does not name one of these colours"),
        ({"cameras": tuple(replace(s.cameras[0], parent_link="hand") for s in STARTS)}, "moves with 'hand'"),
    ],
)
def test_what_it_does_not_know_it_cannot_tell(changes: dict[str, Any], words: str) -> None:
    for verdict in SHIPPED.judge(replace(evidence(), **changes)):
        assert verdict.cannot_tell
        assert verdict.probability is None
        assert words in verdict.reason


def test_doubt_lies_in_the_band_and_a_score_that_is_no_number_is_doubt() -> None:
    wide = LearnedJudge(SHIPPED.network, {task: Calibration(1, 0, 0, 1) for task in TASKS}, SHIPPED.colors)
    assert all(verdict.cannot_tell and "band of doubt" in verdict.reason for verdict in wide.judge(evidence()))
    broken = LearnedJudge.load()
    with torch.no_grad():
        for value in broken.network.object_eye.parameters():
            value.fill_(torch.nan)
    for verdict in broken.judge(evidence()):
        assert verdict.cannot_tell
        assert (verdict.probability, verdict.reason) == (None, "the network measured no finite number")


def test_joints_of_another_robot_are_refused() -> None:
    with pytest.raises(InvalidInput, match="of panda_robotiq"):
        SHIPPED.judge(replace(evidence(), joints=np.zeros((6, 7))))
    with pytest.raises(InvalidInput, match="one for each of"):
        LearnedJudge(SHIPPED.network, {}, SHIPPED.colors)


def test_one_color_is_named_or_none() -> None:
    colors = SHIPPED.colors
    assert named_color("Push the RED cube onto the disc", colors) == "red"
    assert named_color("push the reddish cube", colors) is None
    assert named_color("red onto blue", colors) is None


@pytest.mark.parametrize(
    "change",
    [
        {"name": "detector"},
        {"network": {}},
        {"network": {"widths": [8, "wide"], "hidden": 2}},
        {"calibrations": {"push": {"scale": 1, "shift": 0, "low": 0.4, "high": 0.6}}},
        {"calibrations": {"push": {"scale": -1}}},
        {"colors": {"red": [1, 2]}},
        {"robot": "no_such_robot"},
    ],
)
def test_a_foreign_file_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    tensors, description = load_tensors(WEIGHTS)
    path = tmp_path / "judge.safetensors"
    save_tensors(path, tensors, {**description, **change})
    with pytest.raises(BadFile, match=r"judge\.safetensors"):
        LearnedJudge.load(path)
