"""Every example runs from another folder, in a process of its own, and shows what it promises."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
LONGEST = 100
NEEDS = {
    "02": ["pybullet"],
    "05": ["pybullet"],
    "09": ["pybullet", "tensorboard"],
    "11": ["pybullet"],
    "12": ["stable_baselines3"],
    "16": ["tensorboard"],
    "17": ["pybullet"],
}
NEEDS |= {name: [*NEEDS["09"], "diffusers"] for name in ("10", "13", "14", "15")}
QUICK = {"10": ["3", "2"]}  # arguments that make an example short


def play(name: str, folder: Path, *arguments: str) -> str:
    """What an example prints when it is run in `folder`, on one core, from this checkout."""
    (script,) = (path for path in EXAMPLES if path.name.startswith(name))
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, str(script), *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def number(pattern: str, text: str) -> float:
    """The number that the first group of a pattern finds."""
    found = re.search(pattern, text)
    assert found is not None, f"nothing like {pattern!r} in:\n{text}"
    return float(found[1])


def picture(path: Path) -> np.ndarray:
    image = cv2.imread(str(path))
    assert image is not None, path
    return image


def film(path: Path) -> np.ndarray:
    """The frames (T, H, W, 3) of a video."""
    import av

    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def first_dream(said: str, out: Path) -> None:
    assert "begins at pick_place_" in said and "put the" in said
    assert number(r"step 18 .* by ([\d.]+)", said) > 0.5
    frames = film(out / "01_first_dream.mp4")
    assert frames.shape == (19, 384, 768, 3)
    dream = frames[:, :, :384].astype(int)
    assert (np.abs(dream[-1] - dream[0]) > 40).any(-1).mean() > 0.02  # something moved


def beside_twin(said: str, out: Path) -> None:
    rows = re.findall(r"^ *(\d+) +([\d.]+) dB +([\d.]+) dB +([\d.]+) +([\d.]+)$", said, re.MULTILINE)
    steps, dream, still, agreement, ceiling = (np.array(column, float) for column in zip(*rows, strict=True))
    assert steps[0] == 1 and len(steps) >= 3
    assert dream[-1] > still[-1] + 1, "the dream is no truer than its first picture"
    assert agreement.min() > 0.5 and ceiling.min() > 0.6
    assert "the task is done" in said
    assert film(out / "02_dream_beside_twin.mp4").shape == (steps[-1] + 1, 384, 1152, 3)


def many_dreams(said: str, out: Path) -> None:
    assert "8 dreams, pictures (8, 128, 128, 3), actions (8, 8)" in said
    assert "row 3 equals a single environment in 8 of 8 pictures" in said
    sheet = picture(out / "03_many_dreams.png")
    assert sheet.shape == (4 * 128, 8 * 128, 3)
    firsts = {sheet[:128, 128 * row : 128 * (row + 1)].tobytes() for row in range(8)}
    assert len(firsts) == 8, "two dreams begin alike"


def fork_and_rewind(said: str, out: Path) -> None:
    assert said.count("bits equal: True") == 2 and "False" not in said
    assert number(r"record of ([\d.]+) MB", said) < 2
    assert number(r"another future: (\d+)%", said) >= 1
    assert "1 row at step 8" in said and (out / "04_state.safetensors").stat().st_size < 2e6
    sheet = picture(out / "04_fork_and_rewind.png")
    moments = sheet[:, :128].reshape(3, 128, 128, 3)
    assert (moments == moments[0]).all(), "the futures do not begin at one moment"


def your_photo(said: str, out: Path) -> None:
    right, askew = (number(rf"camera {words}: .* by ([\d.]+)", said) for words in ("as calibrated", "10 cm off"))
    assert right > 0.8 and askew < right - 0.15
    assert "step  9: agreement" in said and "task: push the object away" in said
    assert picture(out / "05_photo.png").shape == (480, 640, 3)
    assert picture(out / "05_your_photo.png").shape == (256, 4 * 128, 3)


def your_robot(said: str, out: Path) -> None:
    assert "small_arm: 6 joints, 7 links, tip part_6" in said and "joint_5: -2.80 .. 2.80" in said
    assert "(5, 6) -> (5, 7, 4, 4)" in said and "inverse: 5 of 5 found" in said
    assert number(r"differences: ([\d.e-]+) apart", said) < 1e-8
    drawn = picture(out / "06_your_robot.png")
    assert drawn.shape == (256, 5 * 256, 3) and all(part.max() > 100 for part in np.split(drawn, 5, axis=1))


def draw_prompts(said: str, out: Path) -> None:
    assert "panda_robotiq: 8 joints, 19 key points, 17 bones" in said
    for name in ("compact", "vap"):
        assert f"profile {name}: skeleton (2, 2, 5, 160, 160, 3) torch.uint8" in said
    assert number(r"drawn at (\d+) a second", said) > 10
    sheet = picture(out / "07_draw_prompts.png")
    assert sheet.shape == (4 * 160, 10 * 160, 3)
    bold, thin = ((sheet[:480, part].max(-1) > 0).mean() for part in (slice(0, 800), slice(800, 1600)))
    assert bold > 2 * thin > 0


def kinematic_world(said: str, out: Path) -> None:
    assert "both move the robot alike: True" in said
    fast, slow = number(r"kinematic (\d+)", said), number(r"compact (\d+)", said)
    assert fast > 2 * slow
    ends = {name: number(rf"steps ([\d.]+): {name}", said) for name in ("dream", "liar", "kinematic")}
    assert ends["dream"] > 0.6 and ends["dream"] > ends["liar"] + 0.15
    assert number(r"ends after (\d+) of 12", said) < 12
    sheet = picture(out / "08_kinematic_world.png")
    liar = sheet[128:256].reshape(128, 5, 128, 3)
    assert (liar == liar[:, :1]).all()


def record_and_train(said: str, out: Path) -> None:
    assert re.findall(r"seed (\d): 9 pictures, \w", said) == ["0", "1", "2"]
    for part in ("pictures", "motion"):
        assert re.search(rf"{part} stopped after step 2; .*checkpoint\.json", said)
        assert f"{part} resumed from there, stopped after step 3" in said
    assert number(r"tiny.safetensors: ([\d.]+) MB", said) < 1
    start, later = (number(rf"{words} ([\d.]+)", said) for words in ("at the start", "of the dream"))
    assert start > 0.8 and later < start, "three steps of training cannot be that good"
    assert not out.exists(), "everything was to go into a temporary folder"


def train_cogvideox(said: str, out: Path) -> None:
    """Two steps teach nothing: what is looked at is that the parts fit and that the figures tell so."""
    assert "2 steps on 2 episodes" in said
    own, other, idle = (number(rf"told {words} actions ([\d.]+)", said) for words in ("its own", "another.*", "idle"))
    ceiling = number(r"twin ([\d.]+)", said)
    assert ceiling > 0.5 and max(own, other, idle) < ceiling - 0.1
    sheet = picture(out / "10_train_cogvideox.png")
    assert sheet.shape == (4 * 192, 4 * 192, 3)
    truth, prompt, dream, standing = (row[:, :192] for row in np.split(sheet, 4))
    assert (truth == dream).all() and (truth == standing).all() and prompt.max() > 100, (
        "both begin at the first picture"
    )


def plan_in_the_dream(said: str, out: Path) -> None:
    assert "push the purple sphere onto the disc: done" in said
    assert number(r"imagined, it ends ([\d.]+) cm from the goal", said) < 15
    assert number(r"onto the disc: done .* ([\d.]+) cm from", said) < 7
    assert "move the gripper above the purple brick: done" in said
    assert picture(out / "11_plan_in_the_dream.png").shape == (128, 6 * 128, 3)


def train_in_the_dream(said: str, out: Path) -> None:
    """So little training teaches hardly anything: what is looked at is what was kept, and that both kinds act."""
    kept = number(r"(\d+) of 16 dreamt episodes succeeded", said)
    assert 1 <= kept <= 8, "half of the teachers go for the wrong object"
    assert number(r"PPO: (\d+) dreamt steps", said) >= 64
    assert number(r"PPO: \d+ dreamt steps, (\d+) episodes", said) >= 8
    for name in ("clone", "PPO"):
        assert 0 < number(rf"{name}: \d+ cm .* nearest (\d+) cm", said) < 100
    sheet = picture(out / "12_train_in_the_dream.png")
    assert sheet.shape == (2 * 128, 5 * 128, 3)
    assert (sheet[:128, :128] == sheet[128:, :128]).all(), "both begin at one start"
    assert (sheet[:128, 128:] != sheet[128:, 128:]).any()


def action_prism(said: str, out: Path) -> None:
    """So few steps teach nothing: what is looked at is that what is shown is heard at all."""
    assert "6 steps on 4 films: too few" in said
    assert 0 < number(r"differs by ([\d.]+) grey levels", said) < 20
    sheet = picture(out / "13_action_prism.png")
    assert sheet.shape == (4 * 128, 5 * 128, 3)
    shown, dream, other, dreamt = np.split(sheet, 4)
    assert (dream[:, :128] == dreamt[:, :128]).all(), "both dreams begin at the same picture"
    assert (dream != dreamt).any() and (shown[:, :128] == other[:, :128]).all() and (shown != other).any()


def video_as_prompt(said: str, out: Path) -> None:
    assert "dreamt 9 pictures with video_as_prompt" in said and "expert in blocks [0, 2]" in said
    assert film(out / "14_video_as_prompt.mp4").shape == (9, 32 + 256, 2 * 256, 3)
    assert '"with": "video_as_prompt"' in (out / "14_video_as_prompt.json").read_text()
    assert picture(out / "14_video_as_prompt.png").shape == (144, 5 * 256, 3)


def flexiact(said: str, out: Path) -> None:
    assert 0 < number(r"told 'wave', the dream differs by ([\d.]+) grey levels", said) < 20
    sheet = picture(out / "15_flexiact.png")
    assert sheet.shape == (3 * 192, 3 * 192, 3)
    _, told, untold = np.split(sheet, 3)
    assert (told[:, :192] == untold[:, :192]).all() and (told != untold).any()


def adapt_to_your_station(said: str, out: Path) -> None:
    """So few steps of so small a network teach little: what is looked at is that they teach something."""
    assert "step 40 of 40 on 2 views of 2 clips, 1 clips held out" in said
    before, after = (number(rf"{words}: moving pixels .*, ([+-][\d.]+) dB over", said) for words in ("before", "after"))
    assert after > before
    assert picture(out / "16_adapt_to_your_station.png").shape == (4 * 288, 2 * 432, 3)


def replay_teleop(said: str, out: Path) -> None:
    rows = re.findall(r"^ *\d+  +([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+)$", said, re.MULTILINE)
    kinematic, compact, still, agreement, ceiling, risk = (np.array(c, float) for c in zip(*rows, strict=True))
    assert len(rows) > 8 and compact.mean() > still.mean() + 3 and compact.mean() > kinematic.mean()
    assert agreement.mean() > 0.7 and ceiling.mean() > 0.8 and 0 <= risk.min() <= risk.max() <= 1
    assert number(r"mirrored: ([\d.]+) grey levels", said) > 1
    assert number(r"what was done, agreement ([\d.]+)", said) > 0.7
    (name,) = (path.name for path in (out / "17_replay").glob("*.mp4"))
    frames = film(out / "17_replay" / name)
    assert frames.shape[0] == 15 and frames.shape[2] == 6 * 288, "recorded, prompt, two dreams in each of two worlds"
    assert (out / "17_replay" / "replay.html").is_file() and (out / "17_replay" / "replay.csv").is_file()


CHECKS: dict[str, Callable[[str, Path], None]] = {
    "01": first_dream,
    "02": beside_twin,
    "03": many_dreams,
    "04": fork_and_rewind,
    "05": your_photo,
    "06": your_robot,
    "07": draw_prompts,
    "08": kinematic_world,
    "09": record_and_train,
    "10": train_cogvideox,
    "11": plan_in_the_dream,
    "12": train_in_the_dream,
    "13": action_prism,
    "14": video_as_prompt,
    "15": flexiact,
    "16": adapt_to_your_station,
    "17": replay_teleop,
}


@pytest.mark.parametrize("name", CHECKS)
def test_example_shows_what_it_promises(name: str, tmp_path: Path) -> None:
    for package in NEEDS.get(name, []):
        pytest.importorskip(package)
    said = play(name, tmp_path, *QUICK.get(name, []))
    CHECKS[name](said, tmp_path / "out")
    left = {path.name for path in tmp_path.iterdir()} - {"out"}
    assert not left, f"files beside out/: {left}"
    for written in re.findall(r"written: (\S+?),? ", said):
        assert (tmp_path / written).is_file()


def test_any_urdf_will_do(tmp_path: Path) -> None:
    data = pytest.importorskip("pybullet_data")
    said = play("06", tmp_path, str(Path(data.getDataPath()) / "xarm" / "xarm6_with_gripper.urdf"))
    assert "7 joints" in said and "5 of 5 found" in said
    assert picture(tmp_path / "out" / "06_your_robot.png").max() > 100


def test_every_example_is_checked_and_fits_on_two_screens() -> None:
    assert [path.name[:2] for path in EXAMPLES] == list(CHECKS)
    for path in EXAMPLES:
        lines = path.read_text(encoding="utf-8").splitlines()
        assert len(lines) < LONGEST and lines[0].startswith('"""')
