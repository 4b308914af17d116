"""What Gymnasium and its users ask of an environment."""

from __future__ import annotations

import itertools
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from conftest import SMALL_SCENES, expected_checker_warnings, random_classifier
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from classifiers.checkpoints import save_classifier
from classifiers.data.source import ArrayImages
from classifiers.inference.frozen import FrozenClassifier
from classifiers.networks.spec import ClassifierSpec
from gfnet_env import TASKS, EpisodeSpec, GlanceFocusEnv, GlanceFocusVectorEnv, Task

SIGNS = "GFNet-SyntheticSigns-v0"
SMALL: dict[str, Any] = {"num_scenes": 20, "scenes": SMALL_SCENES}


def test_it_works_at_once() -> None:
    env = gymnasium.make(SIGNS, num_scenes=8)
    observation, info = env.reset(seed=0)

    assert observation in env.observation_space
    assert env.unwrapped.dynamics.source.image_size == (192, 256)  # type: ignore[attr-defined]  # ours
    assert info["label"] in range(10)
    endings = []
    for _ in range(3):
        observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
        assert observation in env.observation_space
        assert isinstance(reward, float) and reward != 0.0
        endings.append((terminated, truncated))
    assert endings == [(False, False), (False, False), (True, False)]


@expected_checker_warnings
def test_both_checkers_pass() -> None:
    check_env(gymnasium.make(SIGNS, **SMALL, render_mode="rgb_array").unwrapped)
    sb3_check_env(gymnasium.make(SIGNS, **SMALL).unwrapped)


def test_ids_are_found_without_importing_the_package() -> None:
    code = (
        "import gymnasium as gym\n"
        f"env = gym.make('gfnet_env:{SIGNS}', num_scenes=2)\n"
        "env.reset(seed=0); print(env.step(env.action_space.sample() * 0)[1])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    env = gymnasium.make(SIGNS, num_scenes=2)
    env.reset(seed=0)
    assert float(done.stdout) == pytest.approx(env.step(np.zeros(2, np.float32))[1], abs=1e-5)


@pytest.mark.parametrize("env_id", TASKS)
def test_every_id_is_registered_with_both_entry_points(env_id: str) -> None:
    spec = gymnasium.spec(env_id)

    assert isinstance(spec.entry_point, str) and isinstance(spec.vector_entry_point, str)
    assert pickle.loads(pickle.dumps(spec)) == spec


def test_environment_can_be_rebuilt_from_its_spec() -> None:
    env = gymnasium.make(SIGNS, **SMALL, reward="increment", num_glimpses=3)

    again = gymnasium.make(pickle.loads(pickle.dumps(env.spec)))

    first, second = env.reset(seed=5)[0], again.reset(seed=5)[0]
    assert all(np.array_equal(first[key], second[key]) for key in first)
    assert again.unwrapped.dynamics.num_glimpses == 3  # type: ignore[attr-defined]  # ours


def test_options_pick_the_image() -> None:
    env = gymnasium.make(SIGNS, **SMALL)

    for index in (0, 7, 19):
        assert env.reset(options={"index": index})[1]["index"] == index
    with pytest.raises(ValueError, match="index=20; pass a whole number from 0 to 19"):
        env.reset(options={"index": 20})
    with pytest.raises(ValueError, match=r"reset options \['idx'\] are unknown; pass 'index'"):
        env.reset(options={"idx": 3})


def test_vector_options_pick_the_images() -> None:
    envs = gymnasium.make_vec(SIGNS, num_envs=3, **SMALL)

    assert envs.reset(options={"index": [4, 0, 9]})[1]["index"].tolist() == [4, 0, 9]
    assert envs.reset(options={"index": 2})[1]["index"].tolist() == [2, 2, 2]
    with pytest.raises(ValueError, match="index="):
        envs.reset(options={"index": [0, 1, -1]})


def test_steps_out_of_order_are_refused() -> None:
    env = gymnasium.make(SIGNS, **SMALL, num_glimpses=2).unwrapped
    with pytest.raises(RuntimeError, match=r"call reset\(\) first"):
        env.step(np.zeros(2, np.float32))
    env.reset(seed=0)
    env.step(np.zeros(2, np.float32))
    with pytest.raises(RuntimeError, match=r"finished episode; call reset\(\) first"):
        env.step(np.zeros(2, np.float32))
    envs = gymnasium.make_vec(SIGNS, num_envs=2, **SMALL)
    with pytest.raises(RuntimeError, match=r"before reset\(\)"):
        envs.step(np.zeros((2, 2), np.float32))


def _vector(classifier: FrozenClassifier, scenes: ArrayImages, mode: AutoresetMode | str) -> GlanceFocusVectorEnv:
    return GlanceFocusVectorEnv(Task(scenes, classifier), EpisodeSpec(), num_envs=3, autoreset_mode=mode)


def test_native_vector_env_with_the_default_mode() -> None:
    envs = gymnasium.make_vec(SIGNS, num_envs=3, **SMALL)

    assert isinstance(envs.unwrapped, GlanceFocusVectorEnv)
    assert envs.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    observation, _ = envs.reset(seed=0)
    assert observation in envs.observation_space


def test_next_step_resets_one_step_late(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    envs = _vector(classifier, scenes, AutoresetMode.NEXT_STEP)
    envs.reset(seed=0)
    for _ in range(3):
        _, _, terminated, truncated, info = envs.step(np.zeros((3, 2), np.float32))
    assert terminated.all() and not truncated.any()
    before = info["index"]

    _, reward, terminated, _, info = envs.step(np.full((3, 2), 0.5, np.float32))

    assert not terminated.any() and not reward.any()
    assert (info["top_left_px"] == -1).all()
    assert (info["index"] != before).any()


def test_same_step_hands_over_the_last_observation(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    envs, other = (_vector(classifier, scenes, mode) for mode in ("SAME_STEP", "DISABLED"))
    envs.reset(seed=0)
    other.reset(seed=0)
    for _ in range(3):
        observation, _, terminated, _, info = envs.step(np.zeros((3, 2), np.float32))
        last, _, _, _, last_info = other.step(np.zeros((3, 2), np.float32))

    assert terminated.all() and info["_final_obs"].all() and info["_final_info"].all()
    assert (info["top_left_px"] == -1).all()  # the new episodes' glance
    for row in range(3):
        assert np.array_equal(info["final_obs"][row]["features"], last["features"][row])
        assert not np.array_equal(observation["features"][row], last["features"][row])
    assert np.array_equal(info["final_info"]["prediction"], last_info["prediction"])


def test_disabled_waits_for_a_masked_reset(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    envs = _vector(classifier, scenes, AutoresetMode.DISABLED)
    envs.reset(seed=0)
    for _ in range(3):
        observation, *_ = envs.step(np.zeros((3, 2), np.float32))
    with pytest.raises(RuntimeError, match=r"rows \[0, 1, 2\] have finished"):
        envs.step(np.zeros((3, 2), np.float32))

    after, info = envs.reset(options={"reset_mask": np.array([True, False, True])})

    assert info["_index"].tolist() == [True, False, True]
    assert np.array_equal(after["features"][1], observation["features"][1])
    assert not np.array_equal(after["features"][0], observation["features"][0])
    with pytest.raises(RuntimeError, match=r"rows \[1\] have finished"):
        envs.step(np.zeros((3, 2), np.float32))
    with pytest.raises(ValueError, match="reset_mask of shape"):
        envs.reset(options={"reset_mask": np.array([True])})


@pytest.mark.parametrize("mode", ["NEXT_STEP", "SAME_STEP"])
def test_episode_statistics_wrapper(classifier: FrozenClassifier, scenes: ArrayImages, mode: str) -> None:
    envs = gymnasium.wrappers.vector.RecordEpisodeStatistics(_vector(classifier, scenes, mode))
    envs.reset(seed=0)

    for _ in range(3):
        *_, info = envs.step(np.zeros((3, 2), np.float32))

    assert info["episode"]["l"].tolist() == [3, 3, 3]


def test_bad_vector_arguments_are_refused(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    with pytest.raises(ValueError, match="autoreset_mode='later' is unknown; pass one of NEXT_STEP"):
        _vector(classifier, scenes, "later")
    with pytest.raises(ValueError, match="num_envs=0"):
        GlanceFocusVectorEnv(Task(scenes, classifier), EpisodeSpec(), num_envs=0)
    with pytest.raises(ValueError, match="2 seeds for 3 environments"):
        _vector(classifier, scenes, "SAME_STEP").reset(seed=[1, 2])
    with pytest.raises(ValueError, match=r"reset options \['mask'\] are unknown"):
        _vector(classifier, scenes, "SAME_STEP").reset(options={"mask": 1})


def test_pictures_show_the_episode(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    env = GlanceFocusEnv(Task(scenes, classifier), EpisodeSpec(), render_mode="rgb_array")
    with pytest.raises(RuntimeError, match=r"render\(\) was called before reset\(\)"):
        env.render()
    env.reset(seed=0)
    frames = [env.render()]
    for action in ([-1.0, -1.0], [1.0, 1.0], [0.0, 0.0]):
        env.step(np.array(action, np.float32))
        frames.append(env.render())

    assert all(frame is not None and frame.dtype == np.uint8 and frame.shape == frames[0].shape for frame in frames)  # type: ignore[union-attr]  # checked first
    assert all(not np.array_equal(one, other) for one, other in itertools.pairwise(frames))
    with pytest.raises(ValueError, match="render_mode='human' is unknown"):
        GlanceFocusEnv(Task(scenes, classifier), EpisodeSpec(), render_mode="human")


def test_boxes_are_green_when_right_and_red_when_wrong(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    from gfnet_env.rendering import RIGHT, WRONG

    env = GlanceFocusEnv(Task(scenes, classifier), EpisodeSpec(), render_mode="rgb_array")
    env.reset(seed=0)
    env.step(np.zeros(2, np.float32))
    trace = env.dynamics.trace
    for label, colour, other in (
        (trace.prediction[0, 1], RIGHT, WRONG),
        ((trace.prediction[0, 1] + 1) % 10, WRONG, RIGHT),
    ):
        trace.label[0], trace.prediction[0, 0] = label, trace.prediction[0, 1]
        frame = env.render()
        assert frame is not None
        assert (frame == np.array(colour)).all(axis=2).sum() > 200
        assert not (frame == np.array(other)).all(axis=2).any()


def test_vector_pictures_are_one_for_each_row(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    envs = GlanceFocusVectorEnv(Task(scenes, classifier), EpisodeSpec(), num_envs=2, render_mode="rgb_array")
    envs.reset(seed=0)

    frames = envs.render()

    assert frames is not None and len(frames) == 2 and frames[0].shape == frames[1].shape


def test_episodes_can_be_filmed(tmp_path: Path) -> None:
    env = gymnasium.wrappers.RecordVideo(
        gymnasium.make(SIGNS, **SMALL, render_mode="rgb_array"), str(tmp_path / "films"), disable_logger=True
    )
    env.reset(seed=0)
    while not env.step(env.action_space.sample())[2]:
        pass
    env.close()

    (film,) = (tmp_path / "films").glob("*.mp4")
    assert film.stat().st_size > 1000


def test_image_folder_with_a_saved_classifier(picture_tree: Path, tmp_path: Path) -> None:
    spec = ClassifierSpec(encoder="small_resnet", patch_size=48, num_glimpses=3, hidden_size=8)
    path = tmp_path / "classifier.safetensors"
    save_classifier(path, random_classifier(spec, 2), ("left", "right"))

    env = gymnasium.make("GFNet-ImageFolder-v0", root=picture_tree, image_size=(96, 128), classifier=path)

    _, info = env.reset(seed=0)
    assert info["label"] in (0, 1)
    assert env.unwrapped.dynamics.source.class_names == ("left", "right")  # type: ignore[attr-defined]  # ours


def test_any_data_set_will_do() -> None:
    class Dots(torch.utils.data.Dataset[Any]):
        classes = ("a", "b", "c")

        def __len__(self) -> int:
            return 6

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            return torch.full((3, 70, 60), index / 6), index % 3

    spec = ClassifierSpec(encoder="small_resnet", patch_size=48, num_glimpses=3, hidden_size=8)
    env = gymnasium.make("GFNet-ImageFolder-v0", dataset=Dots(), image_size=64, classifier=random_classifier(spec, 3))

    _, info = env.reset(options={"index": 4})

    assert info["label"] == 1


def test_imagenet_runs_on_a_pretrained_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scenes: ArrayImages
) -> None:
    """`average:resnet50`, the weights where torchvision would have downloaded them to; a tree of 1,000 classes."""
    import torchvision
    from PIL import Image

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    weights = torchvision.models.get_model_weights("resnet50").DEFAULT
    file = tmp_path / "hub" / "checkpoints" / Path(weights.url).name
    file.parent.mkdir(parents=True)
    torch.save(torchvision.models.resnet50().state_dict(), file)
    picture = Image.fromarray(scenes.images[0].permute(1, 2, 0).numpy())
    for label in range(1000):
        folder = tmp_path / "imagenet" / "val" / f"n{label:08d}"
        folder.mkdir(parents=True)
        picture.save(folder / "0.jpg")

    envs = gymnasium.make_vec(
        "GFNet-ImageNet-v0", num_envs=2, root=tmp_path / "imagenet", split="val", classifier="average:resnet50"
    )

    observation, info = envs.reset(seed=0)
    assert observation["features"].shape == (2, 2048, 3, 3)
    *_, info = envs.step(envs.action_space.sample())
    assert info["multiply_adds"].tolist() == [2 * (750_698_496 + 2048 * 1000)] * 2
    assert envs.unwrapped.dynamics.num_glimpses == 5  # type: ignore[attr-defined]  # ours


def test_a_file_knows_its_classes(picture_tree: Path, tmp_path: Path) -> None:
    names = tuple(sorted(path.name for path in (picture_tree / "train").iterdir()))
    spec = ClassifierSpec(encoder="small_resnet", patch_size=24, num_glimpses=2, hidden_size=8)
    networks = random_classifier(spec, len(names))
    for name, known in {"same": names, "other": names[::-1], "numbers": ("0", "1")}.items():
        save_classifier(tmp_path / f"{name}.safetensors", networks, known)

    def make(classifier: Any) -> gymnasium.Env[Any, Any]:
        return gymnasium.make("GFNet-ImageFolder-v0", root=picture_tree, classifier=classifier, image_size=48)

    for accepted in (tmp_path / "same.safetensors", tmp_path / "numbers.safetensors", networks):
        make(accepted).close()
    with pytest.raises(
        ValueError, match=f"class 0 is '{names[1]}' to .*other.safetensors and '{names[0]}' to the data"
    ):
        make(tmp_path / "other.safetensors")


def test_what_is_missing_is_said(picture_tree: Path, tmp_path: Path, classifier: FrozenClassifier) -> None:
    folder = "GFNet-ImageFolder-v0"
    with pytest.raises(ValueError, match=r"pass either root='TREE' .*, or torchvision= the name of a data"):
        gymnasium.make(folder)
    with pytest.raises(ValueError, match="no classifier was given; pass classifier="):
        gymnasium.make(folder, root=picture_tree)
    with pytest.raises(FileNotFoundError, match="is not a folder; pass a tree"):
        gymnasium.make(folder, root=tmp_path / "nowhere", classifier=classifier)
    with pytest.raises(ValueError, match="the classifier knows 10 classes, the data set has 2"):
        gymnasium.make(folder, root=picture_tree, classifier=classifier)
    with pytest.raises(FileNotFoundError, match=r"none\.safetensors"):
        gymnasium.make(folder, root=picture_tree, classifier=tmp_path / "none.safetensors")
    with pytest.raises(FileNotFoundError, match=r"holds no stage3/ or stage1/classifier.safetensors"):
        gymnasium.make(folder, root=picture_tree, classifier=tmp_path)
    with pytest.raises(ValueError, match="encoder='resnet5' is unknown"):
        gymnasium.make(folder, root=picture_tree, classifier="average:resnet5")
    with pytest.raises(ValueError, match="has 2 classes, this task has 1000"):
        gymnasium.make("GFNet-ImageNet-v0", root=picture_tree, classifier=classifier)
