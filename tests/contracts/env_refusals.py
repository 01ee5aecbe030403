"""What every environment must refuse, by name and without a trace of the attempt."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, ClassVar

import numpy as np
import pytest
from gymnasium.error import ClosedEnvironmentError, ResetNeeded

from tests.contracts.env_subject import EnvSubject, play, same
from vap_sim.envs.start import load_start
from vap_sim.errors import InvalidInput, UnknownName


class EnvRefusals:
    """Arguments, actions, states and verbs that cannot be."""

    subject: ClassVar[EnvSubject]

    def test_state_of_another_control_is_refused_and_changes_nothing(self) -> None:
        env, other = self.subject.bare(), self.subject.bare(control="joint_position")
        env.reset(seed=2)
        other.reset(seed=2)
        state = env.get_state()
        expected = play(env, 1)
        env.set_state(state)
        own = self.subject.station.control
        with pytest.raises(InvalidInput, match=f"control 'joint_position'.*expected.*control '{own}'"):
            env.set_state(other.get_state())
        with pytest.raises(InvalidInput, match="state: given int, expected what get_state returned"):
            env.set_state(3)
        assert same(play(env, 1), expected)
        env.close()
        other.close()

    def test_failed_reset_changes_nothing(self) -> None:
        env = self.subject.bare()
        env.reset(seed=2)
        generator, state = deepcopy(env.np_random.bit_generator.state), env.get_state()
        expected = play(env, 1)
        env.set_state(state)
        start = self.subject.start
        misspelt = start.replace(self.subject.task, f"{self.subject.task}h")
        for seed in (None, 7):
            with pytest.raises(UnknownName, match=f"unknown start '{misspelt}'. Did you mean '{start}'"):
                env.reset(seed=seed, options={"start": misspelt})
            with pytest.raises(InvalidInput, match=f"size of the pictures of start '{start}'"):
                env.reset(seed=seed, options={"start": load_start(start).resized((64, 64))})
        assert env.np_random.bit_generator.state == generator
        assert env.np_random_seed == 2
        assert same(play(env, 1), expected)
        env.close()

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"control_hz": 0.0}, "control_hz: given 0.0, expected a positive number"),
            ({"control_hz": 7.5}, "control_hz: given 7.5, expected an integer multiple of video_hz"),
            ({"video_hz": float("nan")}, "video_hz: given nan"),
            ({"control": "joint_torque"}, "unknown control mode 'joint_torque'"),
            ({"robot": "panda"}, "unknown robot 'panda'. Did you mean 'panda_robotiq'"),
            ({"task": "pul"}, "task"),
            ({"start": "push_001"}, "unknown start 'push_001'. Did you mean 'push_0"),
            ({"render_mode": "rgb"}, "unknown render_mode 'rgb'.*'rgb_array'"),
            ({"render_views": ("images",)}, "unknown render view 'images'. Did you mean 'image'"),
            ({"views": ()}, "views"),
        ],
    )
    @pytest.mark.filterwarnings("ignore:.*not in the possible render_modes")
    def test_bad_arguments_are_named(self, change: dict[str, Any], words: str) -> None:
        with pytest.raises((InvalidInput, UnknownName), match=words):
            self.subject.make(**change)

    def test_bad_actions_are_named_and_change_nothing(self) -> None:
        env = self.subject.bare()
        env.reset(seed=2)
        state = env.get_state()
        expected = play(env, 1)
        env.set_state(state)
        spec = self.subject.action
        few, wrong = np.zeros(spec.size - 1, np.float32), np.zeros(spec.size, np.float32)
        wrong[2] = np.nan
        shapes = rf"given shape \(1, {spec.size - 1}\), expected \(1, {spec.size}\)"
        with pytest.raises(InvalidInput, match=f"{spec.mode} action: {shapes}"):
            env.step(few)
        with pytest.raises(InvalidInput, match=f"{spec.names[2]}.*nan"):
            env.step(wrong)
        assert same(play(env, 1), expected)
        env.close()

    def test_actions_beyond_the_box_are_clipped_or_refused(self) -> None:
        env, strict = self.subject.bare(), self.subject.bare(clip_actions=False)
        action = np.zeros(self.subject.action.size, np.float32)
        action[0], action[-1] = 0.1, 1.7
        env.reset(seed=2)
        wild = env.step(action)
        env.reset(seed=2)
        assert same(env.step(np.clip(action, env.action_space.low, env.action_space.high)), wild)
        strict.reset(seed=2)
        with pytest.raises(InvalidInput, match=r"gripper of row 0: given 1.7"):
            strict.step(action)
        env.close()
        strict.close()

    def test_step_needs_a_reset_and_an_open_environment(self) -> None:
        env = self.subject.bare(render_mode="rgb_array")
        for verb in (env.get_state, env.render, lambda: env.step(env.action_space.sample())):
            with pytest.raises(ResetNeeded, match=r"call reset\(\) first"):
                verb()
        env.reset(seed=0)
        state = env.get_state()
        env.close()
        env.close()
        for verb in (env.reset, env.get_state, env.render, lambda: env.step(None), lambda: env.set_state(state)):
            with pytest.raises(ClosedEnvironmentError, match="closed"):
                verb()
