"""What a policy does on images that nothing is reported on, while it learns and when it is done."""

from __future__ import annotations

from collections.abc import Callable

from stable_baselines3.common.base_class import BaseAlgorithm

from agents.evaluation.diagnostics import Diagnostics, diagnose
from agents.evaluation.rollout import evaluate, final_accuracy
from agents.policies.deterministic import DeterministicPolicy
from agents.runs.results import CALIBRATION_IMAGES
from classifiers.data.source import ImageSource
from classifiers.inference.frozen import FrozenClassifier

DIAGNOSED_IMAGES = 500
"""So many images show whether a finished policy has collapsed; the standard error of its spread is then some 3 %."""


class Validation:
    """Evaluates an agent as it is, and notes what it finds.

    Args:
        agent: the agent, while it learns.
        classifier: the networks that it looks through.
        images: opens the images.
        note: takes the figures of each evaluation: `accuracy` at t = T, and those of `Diagnostics.figures`.
    """

    def __init__(
        self,
        agent: BaseAlgorithm,
        classifier: FrozenClassifier,
        images: Callable[[], ImageSource],
        note: Callable[[dict[str, float]], None],
    ) -> None:
        self._agent, self._classifier, self._images, self._note = agent, classifier, images, note

    def accuracy(self) -> float:
        """Accuracy at t = T on the images that thresholds are found on; of several patch sizes, drawn at random.

        Raises:
            FileNotFoundError: if there are none.
        """
        policy = DeterministicPolicy(self._agent)
        accuracy = final_accuracy(self._classifier, self._images(), policy, max_images=CALIBRATION_IMAGES)
        self._note({"accuracy": accuracy, **self._diagnose().figures()})
        return accuracy

    def diagnose(self) -> Diagnostics:
        """Where the agent looks, on some of these images.

        Raises:
            FileNotFoundError: if there are none.
        """
        found = self._diagnose()
        self._note(found.figures())
        return found

    def _diagnose(self) -> Diagnostics:
        policy = DeterministicPolicy(self._agent)
        return diagnose(evaluate(self._classifier, self._images(), policy, max_images=DIAGNOSED_IMAGES))
