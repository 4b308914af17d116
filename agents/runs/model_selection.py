"""Which policy of a training is kept: the last, or the best on images that nothing is reported on (A.2)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from stable_baselines3.common.base_class import BaseAlgorithm

from agents.policies.weights import load_policy, save_policy
from classifiers.files import write_json


class BestPolicy:
    """Keeps the most accurate policy of an agent's training; of equally accurate ones, the first.

    It keeps the policy and its accuracy in files, so that an interrupted training ends with the same choice.

    Args:
        agent: the agent, while it learns.
        folder: where the files go.
        accuracy: evaluates the agent as it is now.
        times: number of evaluations, evenly spread over the training.
    """

    def __init__(self, agent: BaseAlgorithm, folder: Path, accuracy: Callable[[], float], times: int) -> None:
        self._agent, self._accuracy, self._times = agent, accuracy, times
        self._weights, self._facts = folder / "best.safetensors", folder / "best.json"
        self._asked, self._best = 0, -1.0
        if self._facts.is_file():
            self._asked, self._best = read_facts(self._facts)

    def evaluate_if_due(self, done: int, total: int) -> None:
        """Evaluates the agent if it is time to.

        Args:
            done: environment steps so far.
            total: environment steps in all.
        """
        due = done * self._times // total
        if due <= self._asked:
            return
        accuracy = self._accuracy()
        if accuracy > self._best:
            save_policy(self._weights, self._agent)
            self._best = accuracy
        self._asked = due
        write_json(self._facts, {"asked": due, "accuracy": self._best})

    def restore(self) -> float:
        """Loads the best weights, the last ones included, into the agent.

        Returns:
            Their accuracy.
        """
        last = self._accuracy()
        if self._best > last:
            load_policy(self._weights, self._agent)
        return max(self._best, last)

    def remove(self) -> None:
        """Removes the files, once the policy that was chosen is kept: a process killed before that needs them again."""
        for path in (self._facts, self._weights):
            path.unlink(missing_ok=True)


def read_facts(path: Path) -> tuple[int, float]:
    """How often an unfinished training was evaluated, and the best accuracy.

    Raises:
        ValueError: if the file is damaged.
    """
    try:
        facts = json.loads(path.read_bytes())
        return int(facts["asked"]), float(facts["accuracy"])
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is damaged; delete the folder {path.parent}, and its stage starts again") from error
