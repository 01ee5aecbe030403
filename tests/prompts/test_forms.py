"""The forms of a prompt by their profiles' names: what each shows, what each carries, and what none may tell."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from vap_sim.errors import InvalidInput, UnknownName
from vap_sim.prompts import DepthCue, DrawProfile, Prompter, form_names, profile, profile_names, render_robot
from vap_sim.prompts.forms import depth_picture
from vap_sim.robots.library import RobotModel, load_robot

SIZE = (128, 128)


@pytest.fixture(scope="module")
def panda() -> RobotModel:
    return load_robot("panda_robotiq")


def poses(model: RobotModel, seed: int = 0) -> Tensor:
    noise = torch.randn(2, 3, len(model.home), generator=torch.Generator().manual_seed(seed))
    return model.robot.clamp(model.home + 0.3 * noise)


def test_the_five_forms_and_their_way_to_json() -> None:
    assert form_names() == ("skeleton", "mesh", "depth", "raw_action", "text")
    for name in form_names():
        assert profile(name).name == profile(name).form == name
        assert DrawProfile.from_dict(json.loads(json.dumps(profile(name).to_dict()))) == profile(name)
    assert all(profile(name).form == "skeleton" for name in profile_names())
    older = profile("compact").to_dict()
    del older["form"], older["backend"]
    assert DrawProfile.from_dict(older) == profile("compact"), "profiles written before there were forms"


def test_forms_differ_only_in_the_picture(panda: RobotModel) -> None:
    q, cameras = poses(panda), [panda.camera("exterior_1"), panda.camera("wrist")]
    prompts = {name: Prompter(panda, profile(name), SIZE).draw(q, cameras) for name in form_names()}
    for name, prompt in prompts.items():
        assert prompt.skeleton.shape == (2, 2, 3, 128, 128, 3) and prompt.skeleton.dtype == torch.uint8
        assert (prompt.joints is None) if name == "text" else (prompt.joints is q)
        assert prompt.reference is None and prompt.text is None and prompt.motion == ()
        seen = prompt.skeleton.flatten(3).amax(-1)
        assert (seen == 0).all() if name in ("raw_action", "text") else (seen > 50).all()
    drawn = render_robot(panda, q, cameras)
    assert torch.equal(prompts["skeleton"].skeleton, Prompter(panda, profile("vap"), SIZE).draw(q, cameras).skeleton)
    assert torch.equal(prompts["mesh"].skeleton, drawn.rgb)
    depth = prompts["depth"].skeleton
    assert torch.equal(depth.amax(-1) > 0, drawn.mask)
    assert torch.equal(depth[..., 0], depth[..., 1]) and torch.equal(depth[..., 0], depth[..., 2])
    near, far = depth[..., 0][drawn.depth < 0.3].float(), depth[..., 0][drawn.mask & (drawn.depth > 1.0)].float()
    assert near.min() > far.max()


def test_words_alone_tell_nothing_of_the_action(panda: RobotModel) -> None:
    cameras = [panda.camera("exterior_1")]
    one, other = (Prompter(panda, profile("text"), SIZE).draw(poses(panda, seed), cameras) for seed in (1, 2))
    assert one.joints is None and other.joints is None
    assert torch.equal(one.skeleton, other.skeleton) and not one.skeleton.any()
    captioned = replace(one, text=("push the cube", "lift the cube"))
    assert captioned.index([1]).between(0, 2).text == ("lift the cube",)


def test_raw_actions_are_numbers_alone(panda: RobotModel) -> None:
    cameras, q = [panda.camera("exterior_1")], poses(panda)
    prompt = Prompter(panda, profile("raw_action"), SIZE).draw(q, cameras)
    assert prompt.joints is not None and torch.equal(prompt.joints, q) and not prompt.skeleton.any()
    assert torch.equal(prompt.index([1]).joints[0], q[1])  # type: ignore[index]
    assert replace(prompt, joints=torch.zeros(2, 3, 4)).joints.shape[-1] == 4  # type: ignore[union-attr]


def test_a_grey_level_means_the_same_distance_in_every_picture() -> None:
    cue = DepthCue(near=0.5, far=2.5, dimmest=0.2)
    depth = torch.tensor([0.1, 0.5, 1.0, 1.5, 2.5, 9.0, torch.inf])
    grey = depth_picture(depth, cue)[..., 0]
    assert grey.tolist() == [255, 255, 204, 153, 51, 51, 0]
    assert torch.equal(depth_picture(depth[2:4], cue)[..., 0], grey[2:4]), "not scaled by what else is seen"
    falling = depth_picture(torch.linspace(0, 3, 400), cue)[..., 0].int().diff()
    assert (falling <= 0).all() and falling.min() == -1


def test_poses_cameras_and_sizes_are_checked_in_every_form(panda: RobotModel) -> None:
    q, camera = poses(panda), panda.camera("exterior_1")
    for name in form_names():
        prompter = Prompter(panda, profile(name), SIZE)
        with pytest.raises(InvalidInput, match="q: given values that are not finite"):
            prompter.draw(q / 0, [camera])
        with pytest.raises(InvalidInput, match=r"size of camera 'exterior_1': given \(64, 64\)"):
            prompter.draw(q, [camera.resized((64, 64))])


def test_profiles_say_what_is_wrong_with_a_form() -> None:
    with pytest.raises(UnknownName, match=r"draw profile 'mehs'\. Did you mean 'mesh'"):
        profile("mehs")
    with pytest.raises(UnknownName, match=r"prompt form 'dept'\. Did you mean 'depth'"):
        DrawProfile("mine", (), form="dept")
    with pytest.raises(UnknownName, match="renderer 'GL'"):
        replace(profile("mesh"), backend="GL")
    with pytest.raises(InvalidInput, match="depth_cue of profile 'depth': given None"):
        replace(profile("depth"), depth_cue=None)
    with pytest.raises(InvalidInput, match=r"groups of draw profile 'vap': given \['arm', 'gripper'\], expected none"):
        replace(profile("vap"), form="mesh")
    with pytest.raises(InvalidInput, match="groups of draw profile 'mesh'"):
        replace(profile("mesh"), form="skeleton")


@pytest.mark.parametrize("name", form_names())
def test_an_environment_takes_the_form_from_its_world(name: str) -> None:
    from vap_sim.envs.world_env import WorldEnv
    from vap_sim.models.kinematic import KinematicWorld

    env = WorldEnv(world=KinematicWorld(profile=name))
    try:
        env.reset(seed=0)
        action = env.action_space.sample()
        assert env.step(action)[0] is not None
        assert env.unwrapped._session.prompter.profile == profile(name)  # type: ignore[attr-defined]
    finally:
        env.close()
