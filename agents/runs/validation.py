"""What a policy does on images that nothing is reported on, while it learns and when it is done."""

from __future__ import annotations

from collections.abc import Callable

from stable_baselines3.common.base_class import BaseAlgorithm

from agents.evaluation.diagnostics import Diagnostics, diagnose
from agents.evaluation.metrics import accuracy_by_step
from agents.evaluation.record import EvaluationRecord
from agents.evaluation.rollout import evaluate
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
        """Accuracy at t = T on the images that thresholds are found on."""
        record = self._evaluate(CALIBRATION_IMAGES)
        accuracy = accuracy_by_step(record)[-1]
        self._note({"accuracy": accuracy, **diagnose(record).figures()})
        return accuracy

    def diagnose(self) -> Diagnostics:
        """Where the agent looks, on some of these images.

        Raises:
            FileNotFoundError: if there are none.
        """
        found = diagnose(self._evaluate(DIAGNOSED_IMAGES))
        self._note(found.figures())
        return found

    def _evaluate(self, most: int) -> EvaluationRecord:
        return evaluate(self._classifier, self._images(), DeterministicPolicy(self._agent), max_images=most)
