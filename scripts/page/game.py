"""A game: a person places the looks, a policy places its own on the same images, and the classifier judges both."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.policies.protocol import LocationPolicy
from gfnet_env import EpisodeSpec, GlanceFocusEnv, Task
from gfnet_env.actions import to_action
from scripts.console import printable
from scripts.page.gallery import class_bars, class_probabilities, data_uri

_RULES = EpisodeSpec(reward="increment")


class Game:
    """One image after another, of which the person sees what the classifier has seen until the looks are used up.

    All patches are of the largest size. Of a clip, the middle frame is shown.

    Args:
        task: images and classifier.
        policy: the opponent.
        opponent: its name.
        seed: of the order of the images.

    Attributes:
        opponent: as given.
    """

    def __init__(self, task: Task, policy: LocationPolicy, opponent: str, seed: int = 0) -> None:
        self._policy = policy
        self.opponent = opponent
        self._person, self._machine = (GlanceFocusEnv(task, _RULES) for _ in range(2))
        self._options = {"patch_sizes": task.classifier.spec.patch_size}
        self._score = {"images": 0, "person": 0, "policy": 0}
        self._finished = False
        self._person.reset(seed=seed, options=self._options)

    @property
    def finished_images(self) -> int:
        """How many images all looks were taken at."""
        return self._score["images"]

    def next_image(self) -> None:
        """Goes on to another image; looks that are left are given up, and the image does not count."""
        self._finished = False
        self._person.reset(options=self._options)

    def look(self, row: float, col: float) -> None:
        """Takes the person's next look; after the last, the policy plays the same image and both are scored.

        Args:
            row: of the patch in [0, 1], 0 at the top edge.
            col: of the patch in [0, 1], 0 at the left edge.

        Raises:
            ValueError: if the place is outside the image, or no look is left.
        """
        if self._finished:
            raise ValueError("no look is left at this image; go on to the next image")
        if not (0.0 <= row <= 1.0 and 0.0 <= col <= 1.0):
            raise ValueError(f"the place ({row}, {col}) is outside the image; pass row and col from 0 to 1")
        self._finished = self._person.step(to_action(torch.tensor([[row, col]]))[0])[2]
        if self._finished:
            self._play_policy()
            self._score["images"] += 1
            self._score["person"] += bool(self._person.dynamics.is_right()[0])
            self._score["policy"] += bool(self._machine.dynamics.is_right()[0])

    def state(self) -> dict[str, Any]:
        """What the page shows.

        Returns:
            `size` (height, width) of the image and `patch_size`, in pixels; `num_looks`; the person's `looks` so far,
            see `_looks`; `score`; the `opponent`'s name; and `result`, None until the looks are used up: the `truth`,
            the whole `picture`, and the policy's looks as `policy`.
        """
        dynamics = self._person.dynamics
        result = None
        if self._finished:
            truth = printable(dynamics.source.class_names[dynamics.trace.label[0]])
            picture = _picture(dynamics.images[0])
            result = {"truth": truth, "picture": picture, "policy": _looks(self._machine)}
        return {
            "size": list(dynamics.images.shape[-2:]),
            "patch_size": dynamics.classifier.spec.patch_size,
            "num_looks": dynamics.num_glimpses,
            "looks": _looks(self._person, knows_truth=self._finished),
            "score": dict(self._score),
            "opponent": self.opponent,
            "result": result,
        }

    def close(self) -> None:
        """Ends the threads that decode images."""
        self._person.close()
        self._machine.close()

    def _play_policy(self) -> None:
        index = int(self._person.dynamics.trace.index[0])
        self._machine.reset(options={**self._options, "index": index})
        state, finished = None, False
        while not finished:
            with torch.inference_mode():
                location, state = self._policy(self._machine.dynamics.view(), state)
            finished = self._machine.step(to_action(location)[0])[2]


def _looks(env: GlanceFocusEnv, *, knows_truth: bool = True) -> list[dict[str, Any]]:
    """The looks of the current episode.

    Args:
        env: that it is played in.
        knows_truth: whether the true label may show.

    Returns:
        Of each look `corner`, (top, left) in pixels, None for a glance; `side` in pixels; `picture`, what was seen;
        `prediction` and `confidence`; and `bars`, see `scripts.page.gallery.class_bars`.
    """
    dynamics = env.dynamics
    trace, spec, names = dynamics.trace, dynamics.classifier.spec, dynamics.source.class_names
    found = []
    for step, chances in enumerate(class_probabilities(env)):
        location = trace.location[:1, step]
        is_glance = bool(location.isnan().any())
        if step == 0:
            seen = dynamics.classifier.first_input(dynamics.images[:1], None if is_glance else location)
        else:
            size = int(trace.size[0, step - 1])
            seen = dynamics.classifier.patches(dynamics.images[:1], location, size=size)
        label = int(trace.label[0]) if knows_truth else int(np.argmax(chances))
        found.append(
            {
                "corner": None if is_glance else trace.top_left_px[0, step].tolist(),
                "side": spec.patch_size if step else spec.glance_side,
                "picture": _picture(seen[0]),
                "prediction": printable(names[trace.prediction[0, step]]),
                "confidence": float(trace.confidence[0, step]),
                "bars": [
                    {**each, "is_true": each["is_true"] and knows_truth} for each in class_bars(chances, names, label)
                ],
            }
        )
    return found


def _picture(pixels: Tensor) -> str:
    """An image (3, H, W), or a clip's middle frame, as the `src` of an HTML image."""
    frame = pixels if pixels.ndim == 3 else pixels[len(pixels) // 2]
    return data_uri(frame.clamp(0, 255).to(torch.uint8).permute(1, 2, 0).cpu().numpy(), "png")
