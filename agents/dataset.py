"""Episodes of a policy as a Minari data set, for offline reinforcement learning and imitation."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium
import numpy as np

from agents.policies.baselines import ReferencePolicy
from agents.policies.protocol import LocationPolicy
from gfnet_env import GlanceFocusEnv, __version__

RECORDED_INFOS = ("index", "label", "step", "location", "prediction", "label_probability", "is_success")
"""Keys of `info` that a data set holds."""


def record_dataset(
    env_id: str,
    name: str,
    policy: LocationPolicy | None = None,
    *,
    num_episodes: int,
    observations: bool = False,
    **env_kwargs: Any,
) -> Any:
    """Records episodes, one for each image in turn, as a data set that `minari.load_dataset(name)` loads.

    Args:
        env_id: the environment.
        name: of the data set, such as `"gfnet/signs/reference-v0"`.
        policy: where to look; None takes `agents.policies.baselines.ReferencePolicy`.
        num_episodes: how many, 1 or more.
        observations: whether to record all that the agent observes by default; otherwise only `locations` and
            `progress`. With the image's index in the infos, an environment can show the rest again.
        **env_kwargs: arguments of the environment, which the data set keeps if they are plain values.

    Returns:
        The `minari.MinariDataset`.

    Raises:
        ModuleNotFoundError: if Minari is not installed.
        ValueError: if the name is taken, there is no episode to record, or the actions are not only places.
    """
    try:
        import minari
        from minari.data_collector import EpisodeBuffer
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("Minari is not installed; run `pip install 'gfnet-gym[minari]'`") from error
    if num_episodes < 1:
        raise ValueError(f"num_episodes={num_episodes}; pass 1 or more")
    if name in minari.list_local_datasets():
        raise ValueError(f"the data set {name} is there already; pass another name or `minari delete {name}` first")
    if not observations:
        env_kwargs = {"observe": ("locations", "progress"), **env_kwargs}
    env = gymnasium.make(env_id, disable_env_checker=True, **env_kwargs)
    ours = env.unwrapped
    assert isinstance(ours, GlanceFocusEnv)
    names = ours.dynamics.spec.action_names
    if names != ("row", "col"):
        raise ValueError(
            f"actions of {', '.join(names)}, but policies choose places alone; leave out {names[-1]}_action"
        )
    env.reset(seed=0)
    chosen = policy or ReferencePolicy(ours.task.source.image_size, ours.dynamics.patch_sizes)
    buffers = [EpisodeBuffer(**_episode(ours, chosen, index % len(ours.task.source))) for index in range(num_episodes)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Minari asks for an author and a link
        dataset = minari.create_dataset_from_buffers(
            name,
            buffers,
            env=env,
            algorithm_name="reference" if policy is None else type(policy).__name__,
            description=f"Episodes of {env_id}, one for each image in turn.",
            requirements=[f"gfnet-gym=={__version__}"],
        )
    env.close()
    return dataset


def _episode(env: GlanceFocusEnv, policy: LocationPolicy, index: int) -> dict[str, Any]:
    """An episode on an image, as the fields of Minari's `EpisodeBuffer`."""
    observation, info = env.reset(options={"index": index})
    seen, infos = [observation], [info]
    actions, rewards = [], []
    state: Any = None
    terminated = False
    while not terminated:
        location, state = policy(env.dynamics.view(), state)
        actions.append((2.0 * location[0].cpu().numpy() - 1.0).clip(-1.0, 1.0).astype(np.float32))
        observation, reward, terminated, _, info = env.step(actions[-1])
        seen.append(observation)
        infos.append(info)
        rewards.append(reward)
    return {
        "options": {"index": index},
        "observations": {key: np.stack([each[key] for each in seen]) for key in seen[0]},
        "actions": np.stack(actions),
        "rewards": rewards,
        "terminations": [*[False] * (len(rewards) - 1), True],
        "truncations": [False] * len(rewards),
        "infos": {key: np.stack([np.asarray(each[key]) for each in infos]) for key in RECORDED_INFOS},
    }
