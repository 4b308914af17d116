"""The environment for one image at a time."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from gfnet_env.actions import ActionBox
from gfnet_env.dynamics import GlanceFocusDynamics, to_numpy
from gfnet_env.episode import EpisodeSpec
from gfnet_env.observation import observation_space
from gfnet_env.rendering import check_render_mode, render_rows
from gfnet_env.sampling import RowDraws, parse_index_option
from gfnet_env.tasks import Task

_ROW, _ACTIVE = np.array([0]), np.array([True])


class GlanceFocusEnv(gymnasium.Env[dict[str, np.ndarray], np.ndarray]):
    """Chooses where to look: an episode is one image, an action a place in it, the reward the value of the glimpse.

    ## Description
    `reset` picks an image and shows it to a frozen classifier at low resolution (the glance step). Each `step` crops a
    small full-resolution patch, shows it too (a focus step), and rewards the gain in the probability of the true label
    (Sections 3.1 and 3.2 of "Glance and Focus Networks for Dynamic Visual Recognition", T-PAMI 2022).

    ## Action space
    `Box(-1, 1, (2,), float32)`, (row, col) of the patch: 0 is centered, -1 flush with the top or left edge, 1 with the
    bottom or right edge. Two rules add a component: `stop_action` (above 0, the episode ends without another glimpse)
    and `size_action` (the patch's size: K equal parts of the range, from the smallest to the largest).
    `action_space.names` lists the components.

    ## Observation space
    | key | shape | meaning |
    |---|---|---|
    | `features` | (C, h, w) float32 | feature maps of the last input, the glance or a patch |
    | `hidden` | (F_h,) float32 | the classifier's hidden state, a summary of all inputs so far |
    | `locations` | (T - 1, 2) float32 in [0, 1] | (row, col) of the patches so far; zeros where none was taken |
    | `progress` | (T,) float32 | one-hot of the number of glimpses so far |
    | `glance` | (C, h, w) float32 | feature maps of the glance, at every step; only by request |
    | `pooled` | (F,) float32 | pooled vector of the last input, all that the classifier's head reads of it; the same |
    | `last_size` | (K,) float32 | one-hot of the last patch's size, zeros after the glance; only with several sizes |
    | `next_size` | (K,) float32 | one-hot of the size of the patch to place; the same, and not with `size_action` |
    | `glance_pixels` | (3, G, G) uint8 | the glance itself; only by request |
    | `patch_pixels` | (3, P, P) uint8 | the last patch itself, black after the glance; the same |

    `observe` selects among them; the default is all but `glance`, `pooled` and pixels. Smaller patches are resized to
    the largest size P. Pixels of clips are (F, 3, G, G) and (F, 3, P, P).

    The rest of the image, its label and the feature maps of earlier inputs are not observed. So the process is only
    partially observable. `features` and `hidden` alone do not even show where the patches were: two patches of a flat
    background give equal observations, and a hidden state does not count steps. `locations` and `progress` do.

    ## Rewards
    `contrastive`: the true label's probability minus its mean over random patches, Eq. (8). `increment`: minus its
    value before the step, Eq. (4). Both are in [-1, 1]; `step_cost` is then subtracted. Stopping earns 0. Random
    patches have the size of the agent's patch. A function may take their place, see `gfnet_env.rewards.Reward`.

    ## Starting state
    An image, after the glance step. `np_random` draws the images uniformly and, where there are several, the patch
    sizes of the episode (Section 4.2). A child of it draws the random patches of the reward, so that environments with
    one seed and different rewards show the same images in the same order.

    ## Episode end
    `terminated` after T - 1 patches, after the first patch whose confidence exceeds `exit_confidence`, or when the
    agent stops. Never `truncated`.

    ## Info
    | key | meaning |
    |---|---|
    | `index`, `label` | of the image |
    | `boxes` | (N, 4) top, left, bottom, right in pixels of what decides the label; zeros if unknown |
    | `step` | glimpses so far, 1 to T |
    | `prediction`, `confidence`, `entropy` | the classifier's class, its probability, the entropy in nats |
    | `label_probability` | of the true label |
    | `location` | (2,) in [0, 1], (row, col) of the last patch; NaN after the glance |
    | `top_left_px` | (2,) its corner in pixels; (-1, -1) after the glance |
    | `patch_size` | side of the last patch in pixels; after the glance, of the largest |
    | `multiply_adds` | spent so far by the classifier |
    | `stopped` | whether the agent ended the episode |
    | `is_success` | whether the episode has ended with the right prediction; false before its end |
    | `score` | only if the id has a `ScoreScale`: at the end, random places reach 0 on average, the reference 1 |

    ## Version history
    v0: first.

    Args:
        task: images and classifier.
        episode: the rules.
        render_mode: None or `"rgb_array"`. `gymnasium.make` knows `"rgb_array_list"` and `"human"`, too.

    Attributes:
        num_glimpses: longest sequence T, the glance included.
        observation_keys: keys of the observation.

    Raises:
        ValueError: if task and rules don't fit each other.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 2}  # noqa: RUF012 - Gymnasium's convention

    def __init__(self, task: Task, episode: EpisodeSpec, *, render_mode: str | None = None) -> None:
        check_render_mode(render_mode)
        self.task = task
        self.render_mode = render_mode
        self.dynamics = GlanceFocusDynamics(task.classifier, task.source, episode, 1, task.scale)
        self.num_glimpses, self.observation_keys = self.dynamics.num_glimpses, self.dynamics.observation_keys
        self.action_space = ActionBox(episode.action_names)
        self.observation_space: spaces.Dict = observation_space(
            self.dynamics.classifier, self.dynamics.observation_keys
        )  # type: ignore[assignment]  # Dict samples a plain dict
        self._draws = RowDraws(len(task.source), 1)
        self._has_begun = False
        self._finished = True
        self._closed = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Starts an episode.

        Args:
            seed: of `self.np_random`; None continues with the present generators.
            options: `"index"` picks the image, `"patch_sizes"` the patch sizes in pixels: one, or T - 1 of them. Both
                are drawn at random otherwise.

        Returns:
            The observation after the glance, and info.

        Raises:
            ValueError: if an option is unknown, or there is no such image or size.
            RuntimeError: after `close()`.
        """
        self._check_open("reset")
        options = options or {}
        unknown = options.keys() - {"index", "patch_sizes"}
        if unknown:
            raise ValueError(f"reset options {sorted(unknown)} are unknown; pass 'index' or 'patch_sizes'")
        chosen = parse_index_option(options["index"], 1, len(self.task.source)) if "index" in options else None
        sizes = self.dynamics.parse_patch_sizes_option(options["patch_sizes"]) if "patch_sizes" in options else None
        super().reset(seed=seed)
        if seed is not None or not self._has_begun:
            self._draws.use(0, self.np_random)
        self._draws.rngs[0], self._has_begun = self.np_random, True
        indices = self._draws.images(_ROW) if chosen is None else chosen
        self.dynamics.reset(_ROW, indices, self._draws, sizes)
        self.task.source.prefetch(self._draws.upcoming)
        self._finished = False
        return self._seen()

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """Takes one patch, or stops.

        Args:
            action: (2,) in [-1, 1], (row, col), or more components, see `action_space.names`.

        Returns:
            observation, reward, terminated, truncated (always false), info.

        Raises:
            ValueError: if the action has another shape, is NaN or is outside the space.
            RuntimeError: if the episode has ended or not begun, and after `close()`.
        """
        self._check_open("step")
        if self._finished:
            raise RuntimeError("step() was called on a finished episode; call reset() first")
        decisions = self.dynamics.decisions(np.asarray(action)[None])
        reward, terminated = self.dynamics.step(_ACTIVE, decisions, self._draws)
        self._finished = bool(terminated)
        observation, info = self._seen()
        return observation, float(reward), self._finished, False, info

    def render(self) -> np.ndarray | None:
        """The image with its patches and the glimpse strip, (H, W, 3) uint8; None without a render mode."""
        if self.render_mode is None:
            return None
        return render_rows(self.dynamics, [0])[0]

    def close(self) -> None:
        """Ends the threads that decode images; the environment can't be used afterwards."""
        self._closed = True
        self.task.source.close()

    def _check_open(self, call: str) -> None:
        if self._closed:
            raise RuntimeError(f"{call}() was called on a closed environment; make a new one")

    def _seen(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """The row's observation and info."""
        found = to_numpy({"observation": self.dynamics.observation(), "info": self.dynamics.info()})
        info = {key: value[0] if value.ndim > 1 else value.item() for key, value in found["info"].items()}
        return {key: value[0] for key, value in found["observation"].items()}, info
