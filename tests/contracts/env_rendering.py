"""What every environment must show."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest

from tests.contracts.env_subject import EnvSubject, play
from vap_sim.errors import Unsupported
from vap_sim.viewer.replay import overlay


class EnvRendering:
    """Pictures to be kept, and a window that shows each of them once."""

    subject: ClassVar[EnvSubject]

    def test_render_shows_the_picture_and_the_prompt(self) -> None:
        env = self.subject.bare(render_mode="rgb_array", render_views=("image", "prompt"))
        observation, _ = env.reset(seed=0)
        picture = env.render()
        assert picture.dtype == np.uint8
        assert picture.shape == (128, 256, 3)
        assert np.array_equal(picture[:, :128], observation["image"])
        prompt = picture[:, 128:]
        assert 0 < (prompt.max(-1) > 0).mean() < 0.3
        picture[...] = 0
        assert env.render().any()
        env.close()
        plain = self.subject.bare(render_mode="rgb_array", render_views="image")
        observation, _ = plain.reset(seed=0)
        assert np.array_equal(plain.render(), observation["image"])
        plain.close()

    def test_render_lays_the_prompt_over_the_picture(self) -> None:
        env = self.subject.bare(render_mode="rgb_array", render_views=("image", "prompt", "overlay"))
        env.reset(seed=0)
        play(env, 2)
        picture, prompt, both = np.split(env.render(), 3, axis=1)
        assert np.array_equal(both, overlay(picture, prompt)) and (both != picture).any()
        env.close()

    def test_render_without_a_mode_warns(self) -> None:
        env = self.subject.bare()
        env.reset(seed=0)
        with pytest.warns(UserWarning, match="render_mode='rgb_array'"):
            assert env.render() is None
        env.close()

    def test_human_mode_needs_a_display(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("vap_sim.envs.world_env.window_problem", lambda: "there is no display")
        with pytest.raises(Unsupported, match="there is no display; use render_mode='rgb_array'"):
            self.subject.make(render_mode="human")
        env = self.subject.bare()
        assert env.metadata["render_modes"] == ["rgb_array"]
        env.close()

    def test_human_mode_shows_every_picture(self, monkeypatch: pytest.MonkeyPatch) -> None:
        shown: list[np.ndarray] = []

        class Window:
            def __init__(self, title: str) -> None:
                assert title.startswith("VAPSim")

            def show(self, picture: np.ndarray) -> None:
                shown.append(picture)

            def close(self) -> None:
                shown.append(np.zeros(0, np.uint8))

        monkeypatch.setattr("vap_sim.envs.world_env.window_problem", lambda: None)
        monkeypatch.setattr(f"{type(self.subject.bare()).__module__}.Window", Window)
        env = self.subject.bare(render_mode="human")
        assert "human" in env.metadata["render_modes"]
        first, _ = env.reset(seed=0)
        after = play(env, 1)[0][0]
        assert env.render() is None
        env.close()
        for expected, picture in zip((first, after, after), shown[:3], strict=True):
            assert np.array_equal(picture, expected["image"])
        assert len(shown) == 4
