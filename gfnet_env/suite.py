"""The suite: drawn tasks that each ask one thing of an agent, with their classifiers, rules and scales.

The classifier of a task is a referee. `benchmarks/suite_classifiers.py` trains it with boxes, which the agent never
sees; `benchmarks/zoom_stop.py` that of ZoomStop.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from classifiers.data.drawings import DrawingSpec
from classifiers.data.drawn_tasks.count import CountSpec
from classifiers.data.drawn_tasks.pointer import PointerSpec
from classifiers.data.drawn_tasks.search import SearchSpec
from classifiers.data.drawn_tasks.sign_pair import SignPairSpec
from classifiers.data.drawn_tasks.zoom_stop import ZoomStopSpec
from classifiers.data.synthetic_signs.scenes import SceneSpec
from gfnet_env.drawn_tasks import cached_task, suite_task
from gfnet_env.score import ScoreScale
from gfnet_env.tasks import Task

RULES: dict[str, Any] = {
    "reward": "increment",
    "observe": ("features", "glance", "hidden", "locations", "progress"),
}
"""The rules of most tasks: rewards add up to the gain in the true label's probability; the glance stays in sight."""

POINTER_RULES: dict[str, Any] = {**RULES, "observe": ("pooled", *RULES["observe"])}
"""The rules of Pointer: where to look next depends on what the last patch showed, which its pooled vector tells."""

ZOOM_STOP_RULES: dict[str, Any] = {
    "reward": "increment",
    "size_action": True,
    "stop_action": True,
    "step_cost": "multiply_adds",
    "price": 0.3,
}
"""The rules of ZoomStop: the agent chooses sizes and when to stop; what a patch costs grows with its multiply-adds."""


@dataclass(frozen=True)
class SuiteTask:
    """A task of the suite.

    Attributes:
        env_id: its id.
        spec: of its scenes.
        num_glimpses: longest sequence T, the glance included.
        reward_threshold: random places' mean return and half of what the reference has more.
        scale: accuracy at T of random places and of the reference, or the return of both.
        rules: of an episode, see `gfnet_env.register_task`.
        make: makes the task.
    """

    env_id: str
    spec: DrawingSpec
    num_glimpses: int
    reward_threshold: float | None = None
    scale: ScoreScale | None = None
    rules: Mapping[str, Any] = field(default_factory=lambda: RULES)
    make: Callable[..., Task] = suite_task

    @property
    def make_task(self) -> Callable[..., Task]:
        """`make` of these scenes."""
        return functools.partial(self.make, self.spec)


SUITE: dict[str, SuiteTask] = {
    "sign_pair": SuiteTask("GFNet-SignPair-v0", SignPairSpec(), 5, 0.336, ScoreScale(0.349, 0.993)),
    "search": SuiteTask("GFNet-Search-v0", SearchSpec(), 6, 0.58, ScoreScale(0.386, 0.997)),
    "pointer": SuiteTask("GFNet-Pointer-v0", PointerSpec(), 4, 0.301, ScoreScale(0.228, 0.989), POINTER_RULES),
    "count": SuiteTask("GFNet-Count-v0", CountSpec(), 4, 0.341, ScoreScale(0.414, 0.991)),
    "zoom_stop": SuiteTask(
        "GFNet-ZoomStop-v0",
        ZoomStopSpec(),
        5,
        0.107,
        ScoreScale(-0.096, 0.311, of="return"),
        ZOOM_STOP_RULES,
    ),
}
"""The tasks of the suite, by name; numbers by `python benchmarks/suite_classifiers.py --measure`, and those of
ZoomStop by `python benchmarks/zoom_stop.py --measure`, version 0.4.0."""


CACHED: dict[str, SuiteTask] = {
    "synthetic_signs": SuiteTask(
        "GFNet-SyntheticSigns-Cached-v0", SceneSpec(), 4, 0.244, ScoreScale(0.56, 0.982), rules={}, make=cached_task
    ),
    "sign_pair": SuiteTask(
        "GFNet-SignPair-Cached-v0", SignPairSpec(), 5, 0.322, ScoreScale(0.369, 0.97), make=cached_task
    ),
    "search": SuiteTask("GFNet-Search-Cached-v0", SearchSpec(), 6, 0.597, ScoreScale(0.413, 0.994), make=cached_task),
    "pointer": SuiteTask(
        "GFNet-Pointer-Cached-v0", PointerSpec(), 4, 0.307, ScoreScale(0.226, 0.95), POINTER_RULES, make=cached_task
    ),
}
"""The cached tasks, by the name of the task that each is a preset of for fast research; numbers as of `SUITE`."""
