"""Task variants: sizes of glance and patches, a price of looks, a learned stop, partial observations."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from conftest import SMALL_SCENES, random_classifier
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from classifiers.datasets.image_source import ArrayImages
from classifiers.frozen import FrozenClassifier, frozen
from classifiers.glance_focus import ClassifierSpec
from gfnet_env import EpisodeSpec, GlanceFocusEnv, GlanceFocusVectorEnv, Task
from gfnet_env.actions import to_decisions

MakeClassifier = Callable[..., FrozenClassifier]
SIGNS = "GFNet-SyntheticSigns-v0"
SMALL: dict[str, Any] = {"num_scenes": 20, "scenes": SMALL_SCENES}
VARIANTS: tuple[dict[str, Any], ...] = (
    {"stop_action": True, "step_cost": 0.1, "reward": "increment"},
    {"stop_action": True, "exit_confidence": 0.3},
    {"patch_size": 32, "glance_size": 64, "reward_samples": 2},
    {"patch_size": 64},
    {"glance_size": 24, "reward": "increment"},
    {"observe": ("hidden",), "step_cost": 0.5},
    {"observe": ("features",)},
    {"observe": ["hidden"], "stop_action": True, "patch_size": 40, "num_glimpses": 5},
)
MEAN = (120 + 135 / 16, 120 - 120 / 16)
"""Mean (red, green) of an image with a red corner."""
RED, GREY = (255.0, 0.0), (120.0, 120.0)


def _red_probability(*looks: tuple[float, float]) -> float:
    """Class 0's probability after looks at patches of these mean (red, green) pixels, logits averaged."""
    red, green = (np.mean([look[channel] for look in looks]) / 255.0 for channel in (0, 1))
    return float(1.0 / (1.0 + np.exp((green - 0.456) / 0.224 - (red - 0.485) / 0.229)))


def _action(row: float, column: float, *stop: float) -> np.ndarray:
    return np.array([row, column, *stop], np.float32)


# --- what each is -------------------------------------------------------------------------------------------------


def test_every_look_has_its_price(colour_classifier: MakeClassifier, red_corner_images: ArrayImages) -> None:
    episode = EpisodeSpec(reward="increment", step_cost=0.25)
    env = GlanceFocusEnv(Task(red_corner_images, colour_classifier()), episode)
    env.reset(seed=0)

    first = env.step(_action(1, 1))[1]
    second = env.step(_action(-1, -1))[1]

    assert first == pytest.approx(_red_probability(MEAN, RED) - _red_probability(MEAN) - 0.25, abs=1e-5)
    assert second == pytest.approx(_red_probability(MEAN, RED, GREY) - _red_probability(MEAN, RED) - 0.25, abs=1e-5)


@pytest.mark.parametrize("reward", ["increment", "contrastive"])
def test_the_price_is_all_that_step_cost_changes(
    classifier: FrozenClassifier, scenes: ArrayImages, reward: str
) -> None:
    free, priced = (
        GlanceFocusVectorEnv(Task(scenes, classifier), EpisodeSpec(reward=reward, step_cost=cost), num_envs=4)
        for cost in (0.0, 0.1)
    )
    free.action_space.seed(0)
    free.reset(seed=0)
    priced.reset(seed=0)

    for step in range(8):
        actions = free.action_space.sample()
        (one, gain, over, *_), (other, net, also_over, *_) = free.step(actions), priced.step(actions)
        is_reset = step % 4 == 3  # of three focus steps, then one that begins anew and costs nothing
        assert np.allclose(gain - net, 0.0 if is_reset else 0.1, atol=1e-12)
        assert np.array_equal(over, also_over)
        assert all(np.array_equal(one[key], other[key]) for key in one)


def test_stopping_costs_nothing_and_earns_nothing(
    colour_classifier: MakeClassifier, red_corner_images: ArrayImages
) -> None:
    episode = EpisodeSpec(reward="increment", step_cost=0.25, stop_action=True)
    env = GlanceFocusEnv(Task(red_corner_images, colour_classifier()), episode)
    env.reset(seed=0)
    observation, *_, before = env.step(_action(1, 1, 0.0))  # 0 is not above 0: it looks
    assert before["stopped"] is False and before["top_left_px"].tolist() == [24, 24]

    after, reward, terminated, truncated, info = env.step(_action(-1, -1, 1e-3))

    assert (reward, terminated, truncated) == (0.0, True, False)
    assert all(np.array_equal(observation[key], after[key]) for key in observation)
    assert info["stopped"] is True
    for key in before.keys() - {"stopped"}:  # prediction, multiply-adds and all else as they were
        assert np.array_equal(info[key], before[key]), key
    with pytest.raises(RuntimeError, match=r"finished episode; call reset\(\) first"):
        env.step(_action(0, 0, 0))
    assert env.reset(seed=1)[1]["stopped"] is False


def test_an_episode_may_stop_after_the_glance(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    env = GlanceFocusEnv(Task(scenes, classifier), EpisodeSpec(stop_action=True))
    _, first = env.reset(seed=0)

    _, reward, terminated, _, info = env.step(_action(0.3, 0.3, 1.0))

    assert (reward, terminated) == (0.0, True)
    assert info["multiply_adds"] == first["multiply_adds"] == env.dynamics.costs[0]
    assert info["prediction"] == first["prediction"] and info["top_left_px"].tolist() == [-1, -1]


def _mixed(classifier: FrozenClassifier, scenes: ArrayImages, mode: str) -> tuple[GlanceFocusVectorEnv, Any, Any]:
    """After a step in which row 0 looked and row 1 stopped; and the info before it."""
    envs = GlanceFocusVectorEnv(
        Task(scenes, classifier), EpisodeSpec(stop_action=True, step_cost=0.1), num_envs=2, autoreset_mode=mode
    )
    observation, info = envs.reset(seed=5)
    step = envs.step(np.array([[0.5, 0.5, -1.0], [0.5, 0.5, 1.0]], np.float32))
    assert step[2].tolist() == [False, True] and not step[3].any()
    assert step[1][0] != 0.0 and step[1][1] == 0.0
    return envs, (observation, info), step


def test_rows_stop_by_themselves_next_step(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    envs, (before, first), (observation, *_, info) = _mixed(classifier, scenes, "NEXT_STEP")
    assert info["stopped"].tolist() == [False, True]
    assert np.array_equal(observation["features"][1], before["features"][1])
    assert info["multiply_adds"].tolist() == [envs.dynamics.costs[:2].sum(), first["multiply_adds"][1]]

    _, reward, terminated, _, info = envs.step(np.array([[0, 0, -1], [0, 0, 1]], np.float32))

    assert not terminated.any() and reward[1] == 0.0  # row 1's action was ignored: it began anew
    assert info["stopped"].tolist() == [False, False]
    assert (info["top_left_px"][1] == -1).all() and info["multiply_adds"][0] == envs.dynamics.costs[:3].sum()


def test_rows_stop_by_themselves_same_step(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    _, (before, first), (observation, *_, info) = _mixed(classifier, scenes, "SAME_STEP")

    assert info["_final_obs"].tolist() == [False, True]
    assert np.array_equal(info["final_obs"][1]["hidden"], before["hidden"][1])
    assert info["final_info"]["stopped"][1] and info["final_info"]["prediction"][1] == first["prediction"][1]
    assert not info["stopped"].any()
    assert not np.array_equal(observation["features"][1], before["features"][1])


def test_rows_stop_by_themselves_disabled(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    envs, _, _ = _mixed(classifier, scenes, "DISABLED")
    with pytest.raises(RuntimeError, match=r"rows \[1\] have finished"):
        envs.step(np.zeros((2, 3), np.float32))

    _, info = envs.reset(options={"reset_mask": np.array([False, True])})

    assert not info["stopped"].any()
    envs.step(np.zeros((2, 3), np.float32))


def test_a_step_in_which_all_stop_encodes_nothing(
    classifier: FrozenClassifier, scenes: ArrayImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    envs = GlanceFocusVectorEnv(
        Task(scenes, classifier), EpisodeSpec(stop_action=True), num_envs=3, autoreset_mode="DISABLED"
    )
    envs.reset(seed=0)
    monkeypatch.setattr(FrozenClassifier, "focus", None)

    assert envs.step(np.ones((3, 3), np.float32))[2].all()


@pytest.mark.parametrize("observe", [("features",), ("hidden",), ("hidden", "features")])
def test_only_what_is_chosen_is_observed(
    classifier: FrozenClassifier, scenes: ArrayImages, observe: tuple[str, ...]
) -> None:
    whole, part = (
        GlanceFocusVectorEnv(Task(scenes, classifier), episode, num_envs=2, autoreset_mode="SAME_STEP")
        for episode in (EpisodeSpec(), EpisodeSpec(observe=observe))
    )
    assert set(part.single_observation_space.spaces) == set(observe)  # type: ignore[attr-defined]  # a Dict space
    seen, expected = part.reset(seed=0)[0], whole.reset(seed=0)[0]

    for _ in range(3):
        assert seen in part.observation_space and set(seen) == set(observe)
        assert all(np.array_equal(seen[key], expected[key]) for key in observe)
        actions = whole.action_space.sample()
        seen, *_, info = part.step(actions)
        expected, *_ = whole.step(actions)
    assert set(info["final_obs"][0]) == set(observe)


def test_patches_and_glances_have_their_sizes(
    colour_classifier: MakeClassifier, red_corner_images: ArrayImages
) -> None:
    """Of a 16x16 patch in the corner a quarter is red; a glance of any size has the image's mean colour."""
    task = Task(red_corner_images, colour_classifier())
    env = GlanceFocusEnv(task, EpisodeSpec(reward="increment", patch_size=16, glance_size=8))
    quarter = (120 + 135 / 4, 120 - 120 / 4)

    _, info = env.reset(seed=0)
    assert info["label_probability"] == pytest.approx(_red_probability(MEAN), abs=1e-5)
    *_, info = env.step(_action(1, 1))

    assert info["top_left_px"].tolist() == [16, 16] and info["patch_size"] == 16
    assert info["label_probability"] == pytest.approx(_red_probability(MEAN, quarter), abs=1e-5)
    assert task.classifier.spec.patch_size == 8  # the task's own is left alone


def test_random_patches_of_the_reward_have_the_size_of_patches(
    colour_classifier: MakeClassifier, red_corner_images: ArrayImages
) -> None:
    """A patch as large as the image leaves no choice: a random one is the same, and the contrast is 0."""
    episode = EpisodeSpec(patch_size=32, glance_size=8, reward_samples=3)
    env = GlanceFocusEnv(Task(red_corner_images, colour_classifier()), episode)
    env.reset(seed=0)

    assert env.step(_action(1, -1))[1] == pytest.approx(0.0, abs=1e-6)


def test_multiply_adds_follow_the_sizes(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    def spent(**sizes: int) -> list[int]:
        env = GlanceFocusEnv(Task(scenes, classifier), EpisodeSpec(**sizes))  # type: ignore[arg-type]  # sizes only
        return [env.reset(seed=0)[1]["multiply_adds"], env.step(_action(0, 0))[4]["multiply_adds"]]

    (glance, both), (small, _), (_, after_large) = spent(), spent(glance_size=24), spent(patch_size=96, glance_size=48)
    head = 3 * 16 * (96 + 16) + 16 * 10  # the GRU and its linear layer

    assert both == 2 * glance
    assert small - head == (glance - head) // 4  # a quarter of the pixels
    assert after_large - glance - head == 4 * (glance - head)


def test_feature_maps_have_one_shape(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    env = GlanceFocusEnv(Task(scenes, classifier), EpisodeSpec(patch_size=32, glance_size=64))

    for observation in (env.reset(seed=0)[0], env.step(_action(0, 0))[0]):
        assert observation["features"].shape == (96, 8, 8)  # the glance's own
        assert observation in env.observation_space


# --- what all of them keep ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_a_batch_is_its_rows(classifier: FrozenClassifier, scenes: ArrayImages, variant: dict[str, Any]) -> None:
    task, episode = Task(scenes, classifier), EpisodeSpec(**variant)
    together = GlanceFocusVectorEnv(task, episode, num_envs=4, autoreset_mode="DISABLED")
    alone = [GlanceFocusEnv(task, episode) for _ in range(4)]
    together.action_space.seed(1)
    observation, info = together.reset(seed=40)
    singles = [env.reset(seed=40 + row) for row, env in enumerate(alone)]

    for _ in range(6):
        for row, (single, single_info) in enumerate(singles):
            assert set(single) == set(observation)
            assert all(np.allclose(observation[key][row], value, atol=1e-4) for key, value in single.items())
            for key, value in single_info.items():
                assert np.allclose(info[key][row], value, atol=1e-5), key
        actions = together.action_space.sample()
        observation, rewards, finished, _, info = together.step(actions)
        steps = [env.step(action) for env, action in zip(alone, actions, strict=True)]
        assert np.allclose(rewards, [step[1] for step in steps], atol=1e-5)
        assert finished.tolist() == [step[2] for step in steps]
        singles = [(step[0], step[4]) for step in steps]
        if finished.any():
            observation, info = together.reset(options={"reset_mask": finished})
            singles = [alone[row].reset() if over else singles[row] for row, over in enumerate(finished)]


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize("mode", ["NEXT_STEP", "SAME_STEP"])
def test_same_seed_same_trajectory(
    classifier: FrozenClassifier, scenes: ArrayImages, variant: dict[str, Any], mode: str
) -> None:
    def trajectory() -> list[np.ndarray]:
        env = GlanceFocusVectorEnv(Task(scenes, classifier), EpisodeSpec(**variant), num_envs=3, autoreset_mode=mode)
        env.action_space.seed(7)
        parts = list(env.reset(seed=7)[0].values())
        for _ in range(8):
            observation, reward, terminated, *_ = env.step(env.action_space.sample())
            parts += [*observation.values(), reward, terminated]
        return parts

    for one, other in zip(trajectory(), trajectory(), strict=True):
        assert np.array_equal(one, other)


# SB3 takes any box of three dimensions for an image, and says four times that feature maps make a poor one.
# No other warning is let through.
@pytest.mark.filterwarnings("ignore:It seems that your observation features is an image:UserWarning")
@pytest.mark.filterwarnings("ignore:It seems that your observation space features is an image:UserWarning")
@pytest.mark.filterwarnings("ignore:Treating image space as channels-last:UserWarning")
@pytest.mark.filterwarnings("ignore:The minimal resolution for an image is 36x36:UserWarning")
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_both_checkers_pass(classifier: FrozenClassifier, variant: dict[str, Any]) -> None:
    options = {**SMALL, **variant, "classifier": classifier}
    check_env(gymnasium.make(SIGNS, **options, render_mode="rgb_array").unwrapped)
    sb3_check_env(gymnasium.make(SIGNS, **options).unwrapped)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_every_variant_is_made_by_its_id_and_drawn(classifier: FrozenClassifier, variant: dict[str, Any]) -> None:
    options = {**SMALL, **variant, "classifier": classifier}
    envs = gymnasium.make_vec(SIGNS, num_envs=2, render_mode="rgb_array", **options)
    envs.reset(seed=0)
    frames = [envs.render()]
    envs.step(np.concatenate([np.zeros((2, 2)), -np.ones((2, 1))], 1)[:, : envs.single_action_space.shape[0]])  # type: ignore[index]  # a box
    frames.append(envs.render())

    assert all(not np.array_equal(one[0], other[0]) for one, other in itertools.pairwise(frames))  # type: ignore[index]  # one for each row
    assert envs.unwrapped.dynamics.spec == EpisodeSpec(**variant)  # type: ignore[attr-defined]  # ours


def test_the_glance_is_the_image_made_as_small_as_asked(
    colour_classifier: MakeClassifier, red_corner_images: ArrayImages
) -> None:
    task = Task(red_corner_images, colour_classifier(patch_size=16))
    env = GlanceFocusEnv(task, EpisodeSpec(glance_size=8))
    env.reset(seed=0)

    pixels = env.dynamics.classifier.first_input(env.dynamics.images)

    assert pixels.shape == (1, 3, 8, 8)
    assert (pixels[0, 0] == 120).sum() == 60 and (pixels[0, 0] == 255).sum() == 4


def test_image_folders_take_the_sizes_too(picture_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pretrained network, the weights where torchvision would have downloaded them to."""
    import torchvision

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    weights = torchvision.models.get_model_weights("resnet18").DEFAULT
    file = tmp_path / "hub" / "checkpoints" / Path(weights.url).name
    file.parent.mkdir(parents=True)
    torch.save(torchvision.models.resnet18().state_dict(), file)
    options: dict[str, Any] = {"root": picture_tree, "image_size": (96, 128), "classifier": "average:resnet18"}

    plain, small = (
        gymnasium.make("GFNet-ImageFolder-v0", **options, **sizes)
        for sizes in ({}, {"patch_size": 64, "glance_size": 32})
    )

    assert plain.reset(seed=0)[0]["features"].shape == (512, 3, 3)  # 96 pixels a side
    observation, info = small.reset(seed=0)
    assert observation["features"].shape == (512, 2, 2) and info["patch_size"] == 64
    assert (
        gymnasium.make("GFNet-ImageFolder-v0", **options, patch_size=64).reset(seed=0)[1]["multiply_adds"]
        > (info["multiply_adds"])
    )  # the glance goes with the patches unless it has a size of its own


# --- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"step_cost": -0.1}, "step_cost=-0.1; pass a price of 0 or more"),
        ({"step_cost": float("nan")}, "step_cost=nan; pass a price of 0 or more"),
        ({"observe": ()}, r"observe=\(\); pass a tuple of one or both of 'features', 'hidden'"),
        ({"observe": ("hiden",)}, r"observe=\('hiden',\); pass a tuple of one or both of 'features', 'hidden'"),
        ({"observe": "hidden"}, "observe='hidden'; pass a tuple of one or both of 'features', 'hidden'"),
        ({"patch_size": 4}, "patch_size=4; pass 8 pixels or more, or None for the classifier's"),
        ({"glance_size": 0}, "glance_size=0; pass 8 pixels or more, or None for the classifier's"),
        ({"patch_size": 100}, "patch_size=100 exceeds the 96x128 image; pass a smaller patch_size or a larger image"),
        ({"glance_size": 97}, "glance_size=97 exceeds the 96x128 image; pass a smaller glance_size or a larger image"),
    ],
)
def test_bad_values_are_refused_in_one_sentence(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        gymnasium.make(SIGNS, **SMALL, **arguments)
    assert "\n" not in str(error.value)


def test_more_steps_than_a_cascade_has_are_refused(scenes: ArrayImages) -> None:
    spec = ClassifierSpec(encoder="small_resnet", head="cascade", patch_size=48, num_glimpses=3)
    with pytest.raises(ValueError, match="num_glimpses=4 exceeds the cascade's 3 classifiers; pass at most 3"):
        GlanceFocusEnv(Task(scenes, frozen(random_classifier(spec))), EpisodeSpec(num_glimpses=4))


def test_actions_of_the_other_variant_are_refused(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    env = GlanceFocusEnv(Task(scenes, classifier), EpisodeSpec(stop_action=True))
    env.reset(seed=0)

    with pytest.raises(ValueError, match=r"actions of shape \(1, 2\); pass one \(row, col, stop\)"):
        env.step(_action(0, 0))
    with pytest.raises(ValueError, match=r"is outside Box\(-1, 1, \(3,\)\); clip actions"):
        env.step(_action(0, 0, 1.5))
    with pytest.raises(ValueError, match=r"actions of shape \(1, 3\); pass one \(row, col\)"):
        to_decisions(np.zeros((1, 3)), stop_action=False)


# --- the documentation --------------------------------------------------------------------------------------------

TEXT = (Path(__file__).parent.parent / "docs" / "variants.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("snippet", re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL))
def test_the_documents_examples_run(snippet: str) -> None:
    exec(compile(snippet, "docs/variants.md", "exec"), {})


def test_every_rule_is_documented() -> None:
    for name in EpisodeSpec.__dataclass_fields__:
        assert f"| `{name}" in TEXT, name
