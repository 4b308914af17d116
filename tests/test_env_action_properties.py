"""Actions of any content: a place inside the image, or one sentence; the episode goes on afterwards."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from conftest import with_rules
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from properties import examples, holds

from classifiers.data.source import ArrayImages
from classifiers.inference.frozen import FrozenClassifier
from gfnet_env import GlanceFocusEnv, GlanceFocusVectorEnv
from gfnet_env.actions import grid_actions, location_of, to_action, to_decisions, to_location

NUMBERS = st.one_of(
    st.floats(), st.floats(-1.0, 1.0), st.integers(-2, 2), st.sampled_from([-1.0, 1.0, 0.0, np.nextafter(1.0, 2.0)])
)
ANYTHING = st.one_of(
    st.none(),
    st.text(max_size=3),
    NUMBERS,
    st.lists(NUMBERS, max_size=4),
    st.lists(st.lists(NUMBERS, min_size=2, max_size=2), max_size=3),
    st.tuples(NUMBERS, NUMBERS),
    arrays.arrays(arrays.scalar_dtypes(), arrays.array_shapes(min_dims=0, max_dims=3, max_side=3)),
    arrays.arrays(
        st.sampled_from([np.float16, np.float32, np.float64]), st.just((2,)), elements={"min_value": -1, "max_value": 1}
    ),
    arrays.arrays(
        st.sampled_from([np.float32, np.float64]), st.just((2, 2)), elements={"min_value": -1, "max_value": 1}
    ),
    st.dictionaries(st.text(max_size=2), NUMBERS, max_size=2),
)


def _is_good(action: Any, shape: tuple[int, ...]) -> bool:
    """What the action space says: real numbers of this shape from -1 to 1, in float32's precision."""
    try:
        if np.iscomplexobj(np.asarray(action)):
            return False
        values = np.asarray(action, dtype=np.float32)
    except (TypeError, ValueError, OverflowError):
        return False
    return values.shape == shape and bool((np.abs(values) <= 1).all())


@examples(60, 300)
@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning")
@pytest.mark.parametrize("is_vector", [False, True])
def test_a_step_looks_inside_the_image_or_is_refused(
    is_vector: bool, count: int, classifier: FrozenClassifier, scenes: ArrayImages
) -> None:
    task, episode = with_rules(scenes, classifier, {"reward": "increment", "num_glimpses": 4})
    env: Any = GlanceFocusVectorEnv(task, episode, num_envs=2) if is_vector else GlanceFocusEnv(task, episode)
    shape = (2, 2) if is_vector else (2,)
    taken = {"looks": 0, "refused": 0}
    env.reset(seed=0)

    @holds(count, action=ANYTHING)
    def check(action: Any) -> None:
        if not _is_good(action, shape):
            before = env.dynamics.trace.steps.copy()
            with pytest.raises(ValueError, match=r"actions? .*; (pass|clip)") as error:
                env.step(action)
            assert "\n" not in str(error.value) or isinstance(action, np.ndarray)
            assert (env.dynamics.trace.steps == before).all()
            taken["refused"] += 1
            return
        _, reward, terminated, truncated, info = env.step(action)
        corner = np.atleast_2d(info["top_left_px"])
        assert np.isfinite(reward).all() and not np.any(truncated)
        assert (corner >= 0).all() and (corner <= [scenes.image_size[0] - 48, scenes.image_size[1] - 48]).all()
        taken["looks"] += 1
        if np.any(terminated):
            env.reset()

    assert min(taken.values()) >= 3


@examples(60, 300)
def test_actions_and_places_are_one_to_one(count: int) -> None:
    @holds(count, values=st.lists(st.tuples(*[st.floats(-1.0, 1.0, width=32)] * 2), min_size=1, max_size=4))
    def check(values: list[tuple[float, float]]) -> None:
        actions = np.array(values, np.float32)
        location = to_location(actions)

        assert (location >= 0).all() and (location <= 1).all()
        assert np.allclose(location.numpy(), (actions.astype(np.float64) + 1) / 2, atol=1e-7)
        assert np.allclose(to_action(location), actions, atol=2e-7)
        assert torch.equal(location, location_of(torch.from_numpy(actions)))


@examples(60, 300)
def test_decisions_are_what_the_components_say(count: int) -> None:
    unit = st.floats(-1.0, 1.0, width=32)

    @holds(count, row=st.tuples(unit, unit, unit, unit), sizes=st.integers(2, 5))
    def check(row: tuple[float, ...], sizes: int) -> None:
        found = to_decisions(np.array([row], np.float32), 1, ("row", "col", "stop", "size"), sizes)

        assert found.stops.tolist() == [row[2] > 0]
        assert found.size is not None and 0 <= found.size[0] < sizes
        part = 2 / sizes
        assert -1 + part * found.size[0] - 1e-6 <= row[3] <= -1 + part * (found.size[0] + 1) + 1e-6


@pytest.mark.parametrize("side", [2, 3, 9])
def test_a_grid_reaches_the_borders(side: int) -> None:
    places = to_location(grid_actions(side))
    assert places.min() == 0 and places.max() == 1 and len(places.unique(dim=0)) == side**2
