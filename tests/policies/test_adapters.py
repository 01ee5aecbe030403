"""Networks made elsewhere: what they see is what their mapping says, and files that are none are named."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests.contracts.policy import observations, play
from vap_sim.errors import BadFile, InvalidInput, MissingDependency, UnknownName, Unsupported
from vap_sim.policies.context import PolicyContext
from vap_sim.policies.mapping import read_mapping
from vap_sim.policies.policy import PolicyFault
from vap_sim.policies.registry import load_policy

WHERE = PolicyContext()
MAPPING: dict[str, Any] = {
    "inputs": [
        {"name": "image", "keys": ["image"], "size": 32, "mean": [0.5, 0.25, 0.0], "std": [0.5, 1, 2]},
        {"name": "state", "keys": ["joint_position", "gripper_position"]},
    ],
    "mean": [0.1],
    "std": [2.0],
}


class Net(torch.nn.Module):
    """A chunk of two actions: the state, and the mean of the picture's channels in the first three entries."""

    def forward(self, image: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        seen = torch.cat([image.mean(dim=(2, 3)), state[:, 3:]], dim=1)
        return torch.stack([state, seen], dim=1)


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("script") / "net.pt"
    example = (torch.zeros(2, 3, 32, 32), torch.zeros(2, 8))
    torch.jit.trace(Net(), example).save(str(path))  # type: ignore[no-untyped-call]
    Path(f"{path}.json").write_text(json.dumps(MAPPING))
    return path


def test_torchscript_sees_and_says_what_the_mapping_says(script: Path) -> None:
    policy, obs = load_policy(f"torchscript@{script}", execute=2), observations(0)
    actions, _ = play(policy, policy.reset(3, 0), [0, 1, 2], 0, 2)
    state = np.concatenate([obs["joint_position"], obs["gripper_position"]], axis=1)
    assert actions[:, 0] == pytest.approx(2 * state + 0.1, abs=1e-5)
    channels = (obs["image"].mean(axis=(1, 2)) / 255 - [0.5, 0.25, 0]) / [0.5, 1, 2]
    assert actions[:, 1, :3] == pytest.approx(2 * channels + 0.1, abs=5e-3)
    again, _ = play(load_policy(f"torchscript@{script}", mapping=MAPPING), policy.reset(3, 0), [0, 1, 2], 0, 1)
    assert np.array_equal(again[:, 0], actions[:, 0])


def test_layouts_and_padding() -> None:
    picture = {"name": "p", "keys": ["image"], "size": 16, "layout": "HWC", "scale": 1.0, "pad": True}
    (item,) = read_mapping({"inputs": [picture]}).inputs
    seen = item.of({"image": np.full((2, 10, 20, 3), 7, np.uint8)})
    assert seen.shape == (2, 16, 16, 3) and seen.max() == 7 and not seen[:, :4].any()
    with pytest.raises(InvalidInput, match=r"observation for input 'p': given \['x'\], expected one with 'image'"):
        item.of({"x": np.zeros((1, 1))})


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"inputs": []}, InvalidInput, "inputs of a network"),
        ({"inputs": 3}, InvalidInput, "field 'inputs': given int"),
        ({"inputs": [3]}, InvalidInput, "input: given int, expected an object"),
        ({"inputs": [{"name": "a"}]}, InvalidInput, "expected one with 'keys'"),
        ({"inputs": [{"name": "a", "keys": []}]}, InvalidInput, "keys of input 'a'"),
        ({"inputs": [{"name": "a", "keys": ["x"], "sze": 3}]}, UnknownName, r"'sze'\. Did you mean 'size'"),
        ({"inputs": [{"name": "a", "keys": ["x"], "size": "big"}]}, InvalidInput, "field 'size' of input"),
        ({"inputs": [{"name": "a", "keys": ["x"], "size": 10**6}]}, InvalidInput, "size of input 'a': given 1000000"),
        ({"inputs": [{"name": "a", "keys": ["x"], "layout": "CHV"}]}, UnknownName, r"'CHV'\. Did you mean 'CHW'"),
        ({"std": [0.0]}, InvalidInput, "mean and std of the answer"),
        ({"mean": ["x"]}, InvalidInput, "mean and std of the answer"),
        ({"outputs": "x"}, UnknownName, r"'outputs'\. Did you mean 'output'"),
    ],
)
def test_bad_mappings_are_named(changes: Any, error: type[Exception], words: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=words):
        read_mapping({**MAPPING, **changes})
    (tmp_path / "m.json").write_text(json.dumps({**MAPPING, **changes}))
    with pytest.raises(BadFile, match=words):
        read_mapping(tmp_path / "m.json")


def test_bad_networks_are_named(script: Path, tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(b"no network")
    for name in ("x.pt", "none.pt"):
        with pytest.raises(BadFile, match=r"not a TorchScript file|no such file"):
            load_policy(f"torchscript@{tmp_path}/{name}", mapping=MAPPING)
    with pytest.raises(BadFile, match="no such file; it says what the network wants to see"):
        load_policy(f"torchscript@{tmp_path}/x.pt")
    wrong = {**MAPPING, "inputs": [{**MAPPING["inputs"][1], "name": "image"}, MAPPING["inputs"][1]]}
    policy = load_policy(f"torchscript@{script}", mapping=wrong)
    with pytest.raises(PolicyFault, match=r"torchscript@net.pt': failed"):
        policy.act(observations(0), policy.reset(3, 0))
    narrow = {**MAPPING, "std": [1.0, 2.0]}
    policy = load_policy(f"torchscript@{script}", mapping=narrow)
    with pytest.raises(InvalidInput, match="mean and std of the answer: given 2, expected 1 or 8"):
        policy.act(observations(0), policy.reset(3, 0))


def test_onnx_acts_as_its_network(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed, which writes the network of this test")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra onnx)")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("Tanh", ["state"], ["actions"])],
        "net",
        [helper.make_tensor_value_info("state", kind, ["b", 8])],
        [helper.make_tensor_value_info("actions", kind, ["b", 8])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    what = {"inputs": [MAPPING["inputs"][1]]}
    policy, obs = load_policy(f"onnx@{tmp_path}/net.onnx", mapping=what), observations(0)
    actions, _ = policy.act(obs, policy.reset(3, 0))
    state = np.concatenate([obs["joint_position"], obs["gripper_position"]], axis=1)
    assert actions == pytest.approx(np.tanh(state), abs=1e-5)
    with pytest.raises(UnknownName, match=r"unknown output of net.onnx 'action'\. Did you mean 'actions'"):
        load_policy(f"onnx@{tmp_path}/net.onnx", mapping={**what, "output": "action"})
    with pytest.raises(UnknownName, match=r"unknown input of net.onnx 'image'"):
        load_policy(f"onnx@{tmp_path}/net.onnx", mapping=MAPPING)
    policy = load_policy(
        f"onnx@{tmp_path}/net.onnx", mapping={"inputs": [{"name": "state", "keys": ["joint_position"]}]}
    )
    with pytest.raises(PolicyFault, match=r"onnx@net.onnx': failed"):
        policy.act(obs, policy.reset(3, 0))
    (tmp_path / "x.onnx").write_bytes(b"no network")
    with pytest.raises(BadFile, match="not an ONNX file that runs here"):
        load_policy(f"onnx@{tmp_path}/x.onnx", mapping=what)


def test_missing_onnxruntime_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingDependency, match=r"onnxruntime is not installed.*vap-sim\[onnx\]"):
        load_policy("onnx@x.onnx", mapping=MAPPING)


def test_stable_baselines_models_need_trust_and_act(tmp_path: Path) -> None:
    pytest.importorskip("stable_baselines3", reason="stable-baselines3 is not installed (extra rl)")
    from gymnasium import Env, spaces
    from stable_baselines3 import PPO

    class Place(Env[Any, Any]):
        observation_space = spaces.Dict({"joint_position": spaces.Box(-3, 3, (7,), np.float32)})
        action_space = spaces.Box(WHERE.low, WHERE.high)

    model = PPO("MultiInputPolicy", Place(), n_steps=8, batch_size=8, policy_kwargs={"net_arch": [8]}, seed=0)
    model.save(tmp_path / "m.zip")
    name = f"sb3@{tmp_path}/m.zip"
    with pytest.raises(InvalidInput, match=r"option 'trust' for m.zip: given False, expected trust=True, because"):
        load_policy(name)
    policy, obs = load_policy(name, trust=True), observations(0)
    actions, _ = play(policy, policy.reset(3, 0), [0, 1, 2], 0, 1)
    expected, _ = model.predict({"joint_position": obs["joint_position"]}, deterministic=True)
    assert np.array_equal(actions[:, 0], expected)
    with pytest.raises(PolicyFault, match=r"the environment does not show \['joint_position'\]"):
        policy.act({"image": obs["image"]}, {})
    with pytest.raises(BadFile, match=r"made for actions \(8,\), the environment has \(7,\)"):
        load_policy(name, PolicyContext(control="ee_delta"), trust=True)
    with pytest.raises(UnknownName, match=r"'PPOO'\. Did you mean 'PPO'"):
        load_policy(name, trust=True, algorithm="PPOO")


def test_other_files_are_no_models(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(b"PK no zip")
    np.savez(tmp_path / "y.zip.npz", a=np.zeros(1))
    for name, words in (("none.zip", "no such file"), ("x.zip", "not a whole ZIP"), ("y.zip.npz", "it lacks")):
        with pytest.raises(BadFile, match=words):
            load_policy(f"sb3@{tmp_path}/{name}", trust=True)


class FakeLeRobot:
    """What `load_lerobot` uses of lerobot's factory."""

    config = SimpleNamespace(n_obs_steps=1)

    def get_policy_class(self, kind: str) -> Any:
        if kind != "act":
            raise ValueError(f"Policy type '{kind}' is not available.")
        return self

    def from_pretrained(self, folder: str, local_files_only: bool) -> Any:
        assert local_files_only
        return self

    def make_pre_post_processors(self, config: Any, folder: str) -> Any:
        return (lambda batch: {**batch, "ready": True}), (lambda chunk: 2 * chunk)

    def eval(self) -> None: ...

    def predict_action_chunk(self, batch: dict[str, Any]) -> torch.Tensor:
        assert batch["ready"] and batch["observation.images.exterior_1"].shape == (1, 3, 224, 224)
        assert batch["task"] == [""]
        return batch["observation.state"][:, None].repeat(1, 5, 1)


def test_lerobot_policies_act_between_their_processors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a stand-in of the same verbs."""
    fake = FakeLeRobot()
    monkeypatch.setitem(sys.modules, "lerobot.policies.factory", fake)  # type: ignore[arg-type]
    monkeypatch.setattr("vap_sim.policies.lerobot.import_module", lambda name: fake)
    with pytest.raises(BadFile, match=r"no folder of a LeRobot policy: it has no config\.json"):
        load_policy(f"lerobot@{tmp_path}")
    for text, words in (("[", "is not JSON"), ("{}", "field 'type' is None"), ('{"type": "x"}', "cannot load it")):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(BadFile, match=words):
            load_policy(f"lerobot@{tmp_path}")
    (tmp_path / "config.json").write_text('{"type": "act"}')
    policy, obs = load_policy(f"lerobot@{tmp_path}"), observations(0)
    actions, _ = policy.act(obs, policy.reset(3, 0))
    state = np.concatenate([obs["joint_position"], obs["gripper_position"]], axis=1)
    assert actions == pytest.approx(2 * state, abs=1e-6)
    monkeypatch.setattr(fake, "config", SimpleNamespace(n_obs_steps=2), raising=False)
    with pytest.raises(Unsupported, match="looks at 2 past observations"):
        load_policy(f"lerobot@{tmp_path}")


def test_lerobot_itself(tmp_path: Path) -> None:
    """Where lerobot is absent the error says so; where it is present a folder that is no policy is named."""
    (tmp_path / "config.json").write_text('{"type": "no such policy"}')
    with pytest.raises((MissingDependency, BadFile), match="lerobot"):
        load_policy(f"lerobot@{tmp_path}")
