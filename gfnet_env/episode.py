"""The rules of an episode: every way in which two environments on the same images and networks may differ."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gfnet_env.observation import DEFAULT_OBSERVATION, OBSERVATION_KEYS
from gfnet_env.rewards import REWARDS

MULTIPLY_ADDS = "multiply_adds"
"""The `step_cost` that depends on what a look costs."""


@dataclass(frozen=True, kw_only=True)
class EpisodeSpec:
    """The rules of an episode; `docs/variants.md` explains what each is good for.

    The number of glimpses and their sizes belong to the classifier (`GlanceFocusClassifier.with_spec`).

    Attributes:
        reward: one of `gfnet_env.rewards.REWARDS`.
        reward_samples: random crops S that estimate the expectation of Eq. (8).
        exit_confidence: the episode also ends once a focus step's largest probability exceeds this, in (0, 1]; None
            always takes all T steps.
        step_cost: cost of a look, at least 0, subtracted from the reward of every focus step; `"multiply_adds"` takes
            `price` for as many multiply-adds as the costliest look has, and less for smaller patches.
        price: of `step_cost="multiply_adds"`, above 0; None otherwise.
        stop_action: whether actions have a component `stop`, by which the agent ends the episode when it is above 0.
        size_action: whether actions have a component `size`, by which the agent chooses the size of the patch that it
            places (`gfnet_env.actions.to_decisions`); otherwise sizes are drawn at random (Section 4.2).
        observe: which of `gfnet_env.observation.OBSERVATION_KEYS` the agent observes, one or more.

    Raises:
        ValueError: if one of them is out of range.
    """

    reward: str = "contrastive"
    reward_samples: int = 1
    exit_confidence: float | None = None
    step_cost: float | str = 0.0
    price: float | None = None
    stop_action: bool = False
    size_action: bool = False
    observe: tuple[str, ...] = DEFAULT_OBSERVATION

    def __post_init__(self) -> None:
        if self.reward not in REWARDS:
            raise ValueError(f"reward={self.reward!r} is unknown; pass one of {', '.join(REWARDS)}")
        if not isinstance(self.reward_samples, int) or self.reward_samples < 1:
            raise ValueError(f"reward_samples={self.reward_samples}; pass a whole number, 1 or more")
        if self.exit_confidence is not None and not 0 < self.exit_confidence <= 1:
            raise ValueError(f"exit_confidence={self.exit_confidence}; pass a probability in (0, 1], or None")
        by_multiply_adds = self.step_cost == MULTIPLY_ADDS
        if not by_multiply_adds and not (isinstance(self.step_cost, int | float) and 0 <= self.step_cost < math.inf):
            raise ValueError(f"step_cost={self.step_cost!r}; pass a price of 0 or more, or {MULTIPLY_ADDS!r}")
        if by_multiply_adds and not (self.price is not None and 0 < self.price < math.inf):
            raise ValueError(f"price={self.price} with step_cost={MULTIPLY_ADDS!r}; pass a price above 0")
        if self.price is not None and not by_multiply_adds:
            raise ValueError(
                f"price={self.price} with step_cost={self.step_cost}; leave it out, step_cost is the price"
            )
        if not self.observe or not set(self.observe) <= set(OBSERVATION_KEYS):
            raise ValueError(
                f"observe={self.observe!r}; pass a tuple of one or more of {', '.join(map(repr, OBSERVATION_KEYS))}"
            )

    @property
    def action_names(self) -> tuple[str, ...]:
        """The components of an action, in their order."""
        names = ("stop", self.stop_action), ("size", self.size_action)
        return ("row", "col", *(name for name, is_there in names if is_there))
