"""The rules of an episode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from classifiers.settings import ONE_OR_SEVERAL, Settings, check_one_of, one_of
from gfnet_env.observation import DEFAULT_OBSERVATION, OBSERVATION_KEYS
from gfnet_env.rewards import REWARDS, reward_arguments, reward_name

MULTIPLY_ADDS = "multiply_adds"
"""The `step_cost` that depends on the multiply-adds of a step."""


ObservationKey = Annotated[str, one_of(OBSERVATION_KEYS)]


def _check_reward(reward: str | Callable[..., Any]) -> str | Callable[..., Any]:
    if isinstance(reward, str):
        check_one_of(reward, REWARDS)
    reward_arguments(reward)
    return reward


class EpisodeSpec(Settings):
    """The rules of an episode; `docs/variants.md` explains what each is good for.

    The number of glimpses and their sizes belong to the classifier (`GlanceFocusClassifier.with_spec`).

    Attributes:
        reward: a key of `gfnet_env.rewards.REWARDS`, or a function, see `gfnet_env.rewards.Reward`.
        reward_samples: random crops S that estimate the expectation of Eq. (8), for rewards that ask for them.
        exit_confidence: the episode also ends once a focus step's largest probability exceeds this, in (0, 1]; None
            always takes all T steps.
        step_cost: at least 0, subtracted from the reward of every focus step. `"multiply_adds"` subtracts `price` for
            the costliest patch size, and proportionally less for smaller patches.
        price: of `step_cost="multiply_adds"`, above 0; None otherwise.
        stop_action: whether actions have a component `stop`; above 0, it ends the episode.
        size_action: whether actions have a component `size`, the size of the patch (`gfnet_env.actions.to_decisions`);
            otherwise sizes are drawn at random (Section 4.2).
        observe: which of `gfnet_env.observation.OBSERVATION_KEYS` the agent observes, one or more.

    Raises:
        pydantic.ValidationError: if one of them is unknown or out of range; a `ValueError`.
    """

    reward: Annotated[str | Callable[..., Any], AfterValidator(_check_reward)] = "contrastive"
    reward_samples: Annotated[int, Field(ge=1)] = 1
    exit_confidence: Annotated[float, Field(gt=0, le=1)] | None = None
    step_cost: Annotated[float, Field(ge=0)] | Literal["multiply_adds"] = 0.0
    price: Annotated[float, Field(gt=0)] | None = None
    stop_action: bool = False
    size_action: bool = False
    observe: Annotated[tuple[ObservationKey, ...], Field(min_length=1), ONE_OR_SEVERAL] = DEFAULT_OBSERVATION

    @model_validator(mode="after")
    def _check_costs(self) -> Self:
        if self.step_cost == MULTIPLY_ADDS and self.price is None:
            raise ValueError(f"price is missing; step_cost={MULTIPLY_ADDS} needs a price above 0")
        if self.price is not None and self.step_cost != MULTIPLY_ADDS:
            raise ValueError(
                f"price={self.price} with step_cost={self.step_cost}; leave it out, step_cost is the price"
            )
        if self.reward_samples != 1 and not self.draws_patches:
            raise ValueError(
                f"reward_samples={self.reward_samples} with reward={reward_name(self.reward)}, which draws none; "
                "leave it out"
            )
        return self

    @property
    def draws_patches(self) -> bool:
        """Whether the reward compares with random patches, each of which is encoded."""
        return "random_probabilities" in reward_arguments(self.reward)

    @property
    def action_names(self) -> tuple[str, ...]:
        """The components of an action, in their order."""
        names = ("stop", self.stop_action), ("size", self.size_action)
        return ("row", "col", *(name for name, is_there in names if is_there))
