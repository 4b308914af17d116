"""The vector environment in tensors: the same values as in arrays, in all modes; and what it refuses."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from conftest import SMALL_SCENES
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from agents import as_sb3
from classifiers.data.source import ArrayImages
from classifiers.inference.frozen import FrozenClassifier
from gfnet_env import TASKS, EpisodeSpec, GlanceFocusTorchVectorEnv, GlanceFocusVectorEnv, Task

MODES = ("NEXT_STEP", "SAME_STEP", "DISABLED")
RULES: dict[str, dict[str, Any]] = {
    "contrastive": {},
    "increment": {"reward": "increment", "exit_confidence": 0.2},
    "stopping": {"stop_action": True, "step_cost": 0.1},
    "sizes": {"stop_action": True, "size_action": True, "step_cost": "multiply_adds", "price": 0.1},
}
ID = "GFNet-SyntheticSigns-v0"
NUM_ENVS = 5


def _assert_equal(arrays: Any, tensors: Any) -> None:
    if isinstance(arrays, dict):
        assert arrays.keys() == tensors.keys()
        for key in arrays:
            _assert_equal(arrays[key], tensors[key])
        return
    assert isinstance(tensors, torch.Tensor) and not tensors.is_inference()
    if arrays.dtype == object:
        raise AssertionError("compare final observations by row")
    assert np.allclose(arrays, tensors.cpu().numpy(), atol=1e-6, equal_nan=True)


def _assert_same_step(arrays: tuple[Any, ...], tensors: tuple[Any, ...]) -> None:
    (*seen, info), (*also_seen, other) = arrays, tensors
    final, also_final = info.pop("final_obs", None), other.pop("final_obs", None)
    for one, two in zip((*seen, info), (*also_seen, other), strict=True):
        _assert_equal(one, two)
    assert (final is None) == (also_final is None)
    for row in () if final is None else np.flatnonzero(info["_final_obs"]):
        _assert_equal(final[row], {key: value[row] for key, value in also_final.items()})


class _NoFloat64(TorchDispatchMode):
    """Raises where a tensor of float64 is made, which some devices (MPS) don't have."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        assert not any(isinstance(each, torch.Tensor) and each.dtype == torch.float64 for each in tree_leaves(made))
        return made


@pytest.mark.parametrize("env_id", [ID, "GFNet-ZoomStop-v0"])
def test_no_tensor_of_an_episode_is_float64(env_id: str) -> None:
    task = gymnasium.make_vec(env_id, num_scenes=3).unwrapped.task
    rules = dict(TASKS[env_id].rules)
    for kind in (GlanceFocusVectorEnv, GlanceFocusTorchVectorEnv):
        with _NoFloat64():
            envs: Any = kind(task, EpisodeSpec(**rules), num_envs=3, autoreset_mode="SAME_STEP")
            envs.reset(seed=0)
            for action in np.zeros((4, 3, len(EpisodeSpec(**rules).action_names)), np.float32):
                reward = envs.step(torch.from_numpy(action) if kind is GlanceFocusTorchVectorEnv else action)[1]
        assert reward.dtype == (torch.float32 if kind is GlanceFocusTorchVectorEnv else np.float64)


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("computes_all_rows", [False, True])
def test_tensors_hold_what_arrays_hold(
    classifier: FrozenClassifier, scenes: ArrayImages, mode: str, rules: dict[str, Any], *, computes_all_rows: bool
) -> None:
    """With the same generators; its own ones differ."""
    if "size_action" in rules:
        classifier = classifier.with_spec(patch_sizes=(32, 48))
    task, spec = Task(scenes, classifier), EpisodeSpec(**rules)
    arrays = GlanceFocusVectorEnv(task, spec, num_envs=NUM_ENVS, autoreset_mode=mode)
    tensors = GlanceFocusTorchVectorEnv(task, spec, num_envs=NUM_ENVS, autoreset_mode=mode)
    tensors.dynamics.computes_all_rows = computes_all_rows
    draws = tensors._draws = GlanceFocusVectorEnv(task, spec, num_envs=NUM_ENVS)._draws  # type: ignore[assignment]
    for row in range(NUM_ENVS):
        draws.use(row, np.random.Generator(np.random.PCG64(3 + row)))
    _assert_same_step(arrays.reset(seed=3), tensors.reset())
    arrays.action_space.seed(0)

    for _ in range(7):
        actions = arrays.action_space.sample()
        step, other = arrays.step(actions), tensors.step(torch.from_numpy(actions))
        assert other[1].dtype == torch.float32
        ended, also_ended = step[2], other[2]
        _assert_same_step(step, other)
        if mode == "DISABLED" and ended.any():
            again = tensors.reset(options={"reset_mask": also_ended})
            _assert_same_step(arrays.reset(options={"reset_mask": ended}), again)
    tensors.load_state_dict(tensors.state_dict())


def test_a_seed_repeats_everything(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    task = Task(scenes, classifier.with_spec(patch_sizes=(32, 48)))
    envs = [GlanceFocusTorchVectorEnv(task, EpisodeSpec(), num_envs=3, autoreset_mode="SAME_STEP") for _ in range(2)]
    actions = torch.zeros(3, 2)

    def played(env: GlanceFocusTorchVectorEnv) -> list[Any]:
        env.reset(seed=7)
        return [env.step(actions)[1].tolist() for _ in range(5)]

    first = played(envs[0])
    assert played(envs[0]) == played(envs[1]) == first
    envs[1].load_state_dict(envs[0].state_dict())
    assert torch.equal(envs[0].step(actions)[1], envs[1].step(actions)[1])


def test_make_vec_makes_either_kind() -> None:
    kwargs: dict[str, Any] = {"num_envs": 2, "num_scenes": 4, "scenes": SMALL_SCENES}
    env = gymnasium.make_vec(ID, array="torch", **kwargs)
    observation, info = env.reset(seed=0)
    assert all(isinstance(value, torch.Tensor) for value in (*observation.values(), *info.values()))
    torch.nn.Linear(2, 2)(observation["locations"][:, 0]).sum().backward()  # no inference tensors

    with pytest.raises(ValueError, match=r"a ndarray, but this environment was made with array='torch'"):
        env.step(np.zeros((2, 2), np.float32))
    with pytest.raises(ValueError, match=r"seed=\[1, 2\]; pass one whole number"):
        env.reset(seed=[1, 2])  # type: ignore[arg-type]  # what it refuses
    with pytest.raises(ValueError, match="array='torch'; leave it out"):
        as_sb3(gymnasium.make_vec(ID, array="torch", autoreset_mode="SAME_STEP", **kwargs))
    with pytest.raises(ValueError, match="array='jax' is unknown; pass 'numpy' or 'torch'"):
        gymnasium.make_vec(ID, array="jax", **kwargs)
    with pytest.raises(ValueError, match="device='cuda:99' can't be used on this machine"):
        gymnasium.make_vec(ID, array="torch", device="cuda:99", **kwargs)


def test_gymnasiums_own_wrapper_gives_tensors_in_two_modes(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    """Its conversion knows no arrays of objects, which last observations are in SAME_STEP mode."""
    pytest.importorskip("array_api_compat")
    for mode in MODES:
        inner = GlanceFocusVectorEnv(Task(scenes, classifier), EpisodeSpec(), num_envs=2, autoreset_mode=mode)
        env = gymnasium.wrappers.vector.NumpyToTorch(inner)
        env.reset(seed=0)
        for _ in range(2):
            assert isinstance(env.step(torch.zeros(2, 2))[0]["hidden"], torch.Tensor)
        if mode == "SAME_STEP":
            with pytest.raises(BufferError):
                env.step(torch.zeros(2, 2))
        else:
            assert env.step(torch.zeros(2, 2))[2].all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("mode", MODES)
def test_everything_stays_on_the_device(mode: str) -> None:
    kwargs: dict[str, Any] = {"num_envs": 4, "num_scenes": 8, "scenes": SMALL_SCENES, "device": "cuda"}
    env = gymnasium.make_vec(ID, array="torch", autoreset_mode=mode, **kwargs)
    arrays = gymnasium.make_vec(ID, autoreset_mode=mode, reward="increment", **kwargs)
    indices = {"index": np.arange(4)}
    seen, _ = arrays.reset(options=indices)
    observation, info = env.reset(seed=0, options=indices)
    for _ in range(3):
        for key, value in observation.items():
            assert value.is_cuda and np.allclose(seen[key], value.cpu().numpy(), atol=1e-3)
        observation, reward, terminated, _, info = env.step(torch.zeros(4, 2, device="cuda"))
        seen = arrays.step(np.zeros((4, 2), np.float32))[0]
        assert reward.is_cuda and terminated.is_cuda
        assert all(value.is_cuda for value in to_leaves(info))
    assert terminated.all() and info["is_success" if mode != "SAME_STEP" else "final_info"] is not None


def to_leaves(tree: dict[str, Any]) -> list[torch.Tensor]:
    return [leaf for value in tree.values() for leaf in (to_leaves(value) if isinstance(value, dict) else [value])]
