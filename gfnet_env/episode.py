"""The rules of an episode: every way in which two environments on the same images and networks may differ."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

from classifiers.networks.glance_focus import GlanceFocusClassifier
from classifiers.networks.spec import LEAST_SIDE
from gfnet_env.rewards import REWARDS

OBSERVATION_KEYS = ("features", "hidden")
"""What an agent may observe: the feature maps e_t of the last input, and the classifier's hidden state h^C_t."""

Networks = TypeVar("Networks", bound=GlanceFocusClassifier)


@dataclass(frozen=True, kw_only=True)
class EpisodeSpec:
    """The rules of an episode; `docs/variants.md` says what each is good for.

    Attributes:
        num_glimpses: longest sequence T, the glance counted; None takes the classifier's.
        reward: one of `gfnet_env.rewards.REWARDS`.
        reward_samples: random crops S that estimate the expectation of Eq. (8).
        exit_confidence: the episode also ends once a focus step's largest probability exceeds this, in (0, 1]; None
            always takes all T steps.
        step_cost: price of a look, at least 0, subtracted from the reward of every focus step.
        stop_action: whether actions have a third component, by which the agent ends the episode when it is above 0.
        observe: which of `OBSERVATION_KEYS` the agent observes, one or both.
        patch_size: side of the patches in pixels; None takes the classifier's.
        glance_size: side of the glance in pixels; None takes the classifier's, which is the patches' unless it has a
            size of its own.

    Raises:
        ValueError: if one of them is out of range.
    """

    num_glimpses: int | None = None
    reward: str = "contrastive"
    reward_samples: int = 1
    exit_confidence: float | None = None
    step_cost: float = 0.0
    stop_action: bool = False
    observe: tuple[str, ...] = OBSERVATION_KEYS
    patch_size: int | None = None
    glance_size: int | None = None

    def __post_init__(self) -> None:
        if self.num_glimpses is not None and self.num_glimpses < 2:
            raise ValueError(f"num_glimpses={self.num_glimpses}; pass 2 or more: the glance is one of them")
        if self.reward not in REWARDS:
            raise ValueError(f"reward={self.reward!r} is unknown; pass one of {', '.join(REWARDS)}")
        if self.reward_samples < 1:
            raise ValueError(f"reward_samples={self.reward_samples}; pass 1 or more")
        if self.exit_confidence is not None and not 0 < self.exit_confidence <= 1:
            raise ValueError(f"exit_confidence={self.exit_confidence}; pass a probability in (0, 1], or None")
        if not 0 <= self.step_cost < math.inf:
            raise ValueError(f"step_cost={self.step_cost}; pass a price of 0 or more")
        if not self.observe or not set(self.observe) <= set(OBSERVATION_KEYS):
            raise ValueError(
                f"observe={self.observe!r}; pass a tuple of one or both of {', '.join(map(repr, OBSERVATION_KEYS))}"
            )
        for field in ("patch_size", "glance_size"):
            side = getattr(self, field)
            if side is not None and side < LEAST_SIDE:
                raise ValueError(f"{field}={side}; pass {LEAST_SIDE} pixels or more, or None for the classifier's")

    def sized(self, classifier: Networks) -> Networks:
        """The networks at the sizes of these rules, sharing all weights; themselves if the rules leave them alone."""
        return classifier.at_sizes(patch_size=self.patch_size, glance_size=self.glance_size)
