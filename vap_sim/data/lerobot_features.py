"""An episode as rows of LeRobot's features: which features it has, and the table of its numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vap_sim.data.episode import Episode
from vap_sim.data.lerobot_info import OWN_COLUMNS
from vap_sim.errors import InvalidInput
from vap_sim.robots.library import load_robot, robot_names

CAMERA = "observation.images."
_VIEW = re.compile(r"(?=.*\w)[\w\- ][\w.\- ]*")
_POSE = tuple(f"T{row}{column}" for row in range(4) for column in range(4))


@dataclass(frozen=True)
class Features:
    """What every episode of a dataset has: rate [Hz], sizes (width, height) of views, columns by feature in order,
    names by feature where there are any, whether success is known, and the robot."""

    frame_rate: int
    views: Mapping[str, tuple[int, int]]
    columns: Mapping[str, int]
    names: Mapping[str, tuple[str, ...]]
    precision: str
    robot: str | None
    tool_link: str | None

    def described(self, video: Mapping[str, Any]) -> dict[str, Any]:
        """The member `features` of `meta/info.json`; video: what is said of how films are encoded."""
        found: dict[str, Any] = {}
        for key, count in self.columns.items():
            kind = "bool" if key == "next.success" else self.precision
            found[key] = {
                "dtype": kind,
                "shape": [count],
                "names": list(self.names[key]) if key in self.names else None,
            }
        for view, (width, height) in self.views.items():
            info = {"video.height": height, "video.width": width, **video}
            names = ["height", "width", "channels"]
            found[CAMERA + view] = {"dtype": "video", "shape": [height, width, 3], "names": names, "info": info}
        for key in OWN_COLUMNS:
            kind = "float32" if key == "timestamp" else "int64"
            found[key] = {"dtype": kind, "shape": [1], "names": None}
        return found

    def mapping(self) -> dict[str, Any]:
        """What `meta/vap_sim.json` says, so that the dataset is read as it was written."""
        fields: dict[str, Any] = {}
        state = self.names.get("observation.state", ())
        joints = [k for k, name in enumerate(state) if name != "gripper.pos"]
        if joints:
            fields["joints"] = {"feature": "observation.state", "columns": joints, "unit": "si"}
        if len(joints) < len(state):
            fields["gripper"] = {"feature": "observation.state", "columns": [len(joints)], "open": 0, "closed": 1}
        if "tool_pose" in self.columns:
            fields["tool"] = {"feature": "tool_pose", "form": "matrix"}
        if "joint_targets" in self.columns:
            fields["joint_targets"] = {"feature": "joint_targets", "unit": "si"}
        return {"robot": self.robot, "tool_link": self.tool_link, "fields": fields}


def features_of(episode: Episode, precision: str) -> Features:
    """What an episode has. Raises InvalidInput, naming it, for what LeRobot's layout cannot say."""
    what = f"episode {episode.name!r} as LeRobot's"
    rate = round(episode.frame_rate)
    if rate < 1 or abs(episode.frame_rate - rate) > 1e-6 * rate:
        raise InvalidInput(what, f"{episode.frame_rate} frames a second", "a whole number")
    for view in episode.views:
        if not _VIEW.fullmatch(view):
            raise InvalidInput(what, f"view {view!r}", "letters, digits, '_', '-', '.' and spaces")
    rows = numbers_of(episode)
    names = {}
    if "observation.state" in rows:
        names["observation.state"] = _state_names(episode)
    if "tool_pose" in rows:
        names["tool_pose"] = _POSE
    if "action" in rows and episode.action_names:
        if len(episode.action_names) != rows["action"].shape[1]:
            raise InvalidInput(what, f"{len(episode.action_names)} names of actions", f"{rows['action'].shape[1]}")
        names["action"] = episode.action_names
    return Features(
        rate,
        {view: footage.size for view, footage in episode.views.items()},
        {key: values.shape[1] for key, values in rows.items()},
        names,
        precision,
        episode.robot,
        episode.tool_link if episode.tool is not None else None,
    )


def check_alike(episode: Episode, found: Features, first: Features) -> None:
    """Raises InvalidInput, naming the episode, where it has other features than the first."""
    for member in ("frame_rate", "robot", "tool_link", "views", "columns", "names"):
        given, expected = getattr(found, member), getattr(first, member)
        if given != expected:
            what = f"{member.replace('_', ' ')} of episode {episode.name!r}"
            raise InvalidInput(what, given, f"{expected}, as the first episode of the dataset has")


def numbers_of(episode: Episode) -> dict[str, NDArray[Any]]:
    """Rows (T, n) of every feature that is not a picture."""
    state = [values.reshape(episode.length, -1) for values in (episode.joints, episode.gripper) if values is not None]
    found: dict[str, NDArray[Any]] = {}
    if state:
        found["observation.state"] = np.concatenate(state, axis=1)
    if episode.actions is not None:
        found["action"] = episode.actions
    if episode.joint_targets is not None:
        found["joint_targets"] = episode.joint_targets
    if episode.tool is not None:
        found["tool_pose"] = episode.tool.reshape(episode.length, 16)
    if episode.success is not None:
        success = np.zeros((episode.length, 1), bool)
        success[-1] = episode.success
        found["next.success"] = success
    return found


def table_of(episode: Episode, features: Features, number: int, index: int, task: int) -> Any:
    """The rows of an episode, as a pyarrow table. number: of the episode; index: of its first row in the dataset."""
    import pyarrow

    types = {"float32": pyarrow.float32(), "float64": pyarrow.float64()}
    columns: dict[str, Any] = {}
    for key, values in numbers_of(episode).items():
        kind = pyarrow.bool_() if values.dtype == bool else types[features.precision]
        flat = pyarrow.array(values.astype(kind.to_pandas_dtype()).ravel(), kind)
        count = values.shape[1]
        columns[key] = flat if count == 1 else pyarrow.FixedSizeListArray.from_arrays(flat, count)
    columns |= {
        key: pyarrow.array(values) for key, values in own_columns(episode, features, number, index, task).items()
    }
    return pyarrow.table(columns)


def own_columns(episode: Episode, features: Features, number: int, index: int, task: int) -> dict[str, NDArray[Any]]:
    """The columns that every dataset has, (T,) each."""
    frames = np.arange(episode.length)
    return {
        "timestamp": (frames / features.frame_rate).astype(np.float32),
        "frame_index": frames,
        "episode_index": np.full(episode.length, number),
        "index": index + frames,
        "task_index": np.full(episode.length, task),
    }


def _state_names(episode: Episode) -> tuple[str, ...]:
    """Names as LeRobot gives them: the part that moves, and `pos`."""
    count = 0 if episode.joints is None else episode.joints.shape[1]
    joints = tuple(f"joint_{k + 1}" for k in range(count))
    if episode.robot in robot_names():
        model = load_robot(str(episode.robot))
        gripper = model.gripper.joint if model.gripper is not None else None
        known = tuple(name for name in model.robot.joint_names if name != gripper)
        joints = known if len(known) == count else joints
    return (*(f"{name}.pos" for name in joints), *(() if episode.gripper is None else ("gripper.pos",)))
