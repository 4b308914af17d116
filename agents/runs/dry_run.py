"""What a run needs, tried out before anything trains, so that a wrong option costs seconds, not hours.

Pretrained weights are loaded, and stage II runs on one black image. What an algorithm or a policy raises is not caught:
its traceback says more than we could.
"""

from __future__ import annotations

import warnings

from agents.algorithms.registry import AGENTS
from agents.algorithms.stage2 import train_agent
from agents.policies.baselines import FIXED_POLICIES
from agents.runs.config import RunConfig, Stage2Spec
from agents.runs.folder import start_folder
from agents.runs.loaded import black_image, load_configured
from agents.runs.new_agent import new_agent, policy_env
from classifiers.data.source import default_class_names
from classifiers.devices import usable_device
from classifiers.inference.frozen import frozen
from classifiers.networks.encoders import build_encoder
from classifiers.networks.glance_focus import GlanceFocusClassifier
from classifiers.networks.pretrained import imagenet_ids
from gfnet_env import Task
from gfnet_env.tasks import run_weights

_ENVS = 2
_CLASSES = 10  # where the data are not open yet; only the shapes of observations could depend on it


def check_weights(config: RunConfig) -> None:
    """Loads the pretrained weights that the encoders start from, if any, as the training will.

    Args:
        config: the run's.

    Raises:
        ValueError: if there are no such weights, or they don't fit the encoder.
        FileNotFoundError: if they are a file that does not exist.
    """
    if config.initialization is not None and config.initialization.weights is not None:
        build_encoder(config.classifier.encoder, _CLASSES, config.initialization.weights)
    if config.objects is not None:
        build_encoder(config.objects.encoder, len(imagenet_ids()), config.objects.weights, may_replace_classifier=False)


def check_stage2(config: RunConfig) -> None:
    """Builds stage II's agent and has it take one small rollout and update.

    Args:
        config: the run's.

    Raises:
        ValueError: if an option of the agent is unknown, or the networks' sizes don't fit the images.
        FileNotFoundError: if the run to start from has no networks.
        Exception: whatever the algorithm or the policy raises.
    """
    if config.start is None:
        classifier, names = GlanceFocusClassifier(config.classifier, _CLASSES).eval(), default_class_names(_CLASSES)
    else:
        classifier, names = load_configured(run_weights(start_folder(config.start)), config.classifier)
    networks, black = frozen(classifier.to(usable_device(config.device))), black_image(config, names)
    Task(black, networks)
    if config.stage2.agent in FIXED_POLICIES:
        return
    steps = networks.spec.num_glimpses - 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of so small a rollout
        new_agent(policy_env(networks, black, config.stage2), config.stage2, config.seed)  # full size: memory allows it
        small = _small(config.stage2, steps)
        env = policy_env(networks, black, small)
        agent = new_agent(env, small, config.seed)
        train_agent(agent, _ENVS * steps, seed=config.seed, action_std_schedule=small.action_std_schedule)
        env.close()


def _small(spec: Stage2Spec, steps: int) -> Stage2Spec:
    """The same stage II on two environments, its rollout, batch and replay buffer as small as can be."""
    recipe = AGENTS[spec.agent]
    caps = {
        **({"n_steps": steps} if recipe.rollout else {}),
        **{"batch_size": _ENVS * steps, "buffer_size": 64, "learning_starts": 0, "train_freq": 1, "gradient_steps": 1},
        "n_eval_episodes": _ENVS,
    }
    batch = {"batch_size": _ENVS * steps} if recipe.batches else {}
    has = {"n_steps": steps, **batch, **recipe.defaults, **spec.options}
    options = {**spec.options}
    for name, cap in caps.items():
        value = has.get(name)
        if isinstance(value, int):
            options[name] = min(value, cap)
    return spec.replace(num_envs=_ENVS, options=options)
