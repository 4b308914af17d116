"""The rules of an episode: every way in which two environments on the same images and networks may differ."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gfnet_env.observation import DEFAULT_OBSERVATION, OBSERVATION_KEYS
from gfnet_env.rewards import REWARDS


@dataclass(frozen=True, kw_only=True)
class EpisodeSpec:
    """The rules of an episode; `docs/variants.md` explains what each is good for.

    The number of glimpses and their sizes belong to the classifier (`GlanceFocusClassifier.with_spec`).

    Attributes:
        reward: one of `gfnet_env.rewards.REWARDS`.
        reward_samples: random crops S that estimate the expectation of Eq. (8).
        exit_confidence: the episode also ends once a focus step's largest probability exceeds this, in (0, 1]; None
            always takes all T steps.
        step_cost: cost of a look, at least 0, subtracted from the reward of every focus step.
        stop_action: whether actions have a third component, by which the agent ends the episode when it is above 0.
        observe: which of `gfnet_env.observation.OBSERVATION_KEYS` the agent observes, one or more.

    Raises:
        ValueError: if one of them is out of range.
    """

    reward: str = "contrastive"
    reward_samples: int = 1
    exit_confidence: float | None = None
    step_cost: float = 0.0
    stop_action: bool = False
    observe: tuple[str, ...] = DEFAULT_OBSERVATION

    def __post_init__(self) -> None:
        if self.reward not in REWARDS:
            raise ValueError(f"reward={self.reward!r} is unknown; pass one of {', '.join(REWARDS)}")
        if not isinstance(self.reward_samples, int) or self.reward_samples < 1:
            raise ValueError(f"reward_samples={self.reward_samples}; pass a whole number, 1 or more")
        if self.exit_confidence is not None and not 0 < self.exit_confidence <= 1:
            raise ValueError(f"exit_confidence={self.exit_confidence}; pass a probability in (0, 1], or None")
        if not 0 <= self.step_cost < math.inf:
            raise ValueError(f"step_cost={self.step_cost}; pass a price of 0 or more")
        if not self.observe or not set(self.observe) <= set(OBSERVATION_KEYS):
            raise ValueError(
                f"observe={self.observe!r}; pass a tuple of one or more of {', '.join(map(repr, OBSERVATION_KEYS))}"
            )
