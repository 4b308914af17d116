"""A published checkpoint as a run of ours: usable wherever a run is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from agents.policies.gru import GlimpseGRUPolicy
from agents.policies.weights import save_policy
from agents.runs.config import RunConfig
from agents.runs.config_files import built_in_configs, dump_config, load_config
from agents.runs.folder import RunFolder
from agents.runs.run import LoadedRun, blank_agent, load_networks
from agents.runs.stages import locked
from classifiers.checkpoints import load_exactly, save_classifier
from classifiers.data.source import default_class_names
from classifiers.files import write_json, write_text
from classifiers.inference.frozen import frozen
from classifiers.published import PublishedCheckpoint, read_published


@dataclass(frozen=True)
class ImportedRun:
    """The result of an import.

    Attributes:
        run: the networks, loaded.
        left_out: `entry/key` of each weight in the file that the run does not need.
    """

    run: LoadedRun
    left_out: tuple[str, ...]


def import_checkpoint(path: Path | str, out: Path | str) -> ImportedRun:
    """Turns a published `.pth.tar` into a run.

    The run holds the classifier (as stage III's), the policy, a config with the paper's training settings, and
    `published.json` with the recorded multiply-adds, thresholds and results.

    Args:
        path: the published file; no code in it is executed.
        out: the run's folder, new or empty.

    Returns:
        The run.

    Raises:
        FileNotFoundError: if there is no such file.
        CheckpointError: if it is not such a checkpoint.
        ValueError: if the folder holds a run already.
        OSError: if the folder can't be written.
    """
    with locked(Path(out)):
        return _import(Path(path), RunFolder(Path(out)))


def _import(path: Path, files: RunFolder) -> ImportedRun:
    if files.config.exists():
        raise ValueError(f"{files.path} holds a run already; pass another folder")
    checkpoint = read_published(path)
    config = published_config(checkpoint)
    names = default_class_names(checkpoint.classifier.num_classes)
    agent = blank_agent(config, frozen(checkpoint.classifier), names)
    assert isinstance(agent.policy, GlimpseGRUPolicy)
    load_published_policy(agent.policy, checkpoint.policy, f"{path}: policy")
    save_classifier(files.classifier(3), checkpoint.classifier, names)
    save_policy(files.policy, agent)
    facts = {**checkpoint.results, "left_out": list(checkpoint.left_out)}
    write_json(files.path / "published.json", facts)
    write_text(files.config, dump_config(config))  # last: a folder with a config is a whole run
    return ImportedRun(load_networks(config, files.path), checkpoint.left_out)


def published_config(checkpoint: PublishedCheckpoint) -> RunConfig:
    """The built-in config of a published model; of its nearest, with its own patch size, if it has none."""
    spec = checkpoint.classifier.spec
    name = f"{spec.encoder}_{spec.patch_size}"
    if name not in built_in_configs():
        name = next(known for known in built_in_configs() if known.startswith(f"{spec.encoder}_"))
    return load_config(name).replace(classifier=spec)


def load_published_policy(policy: GlimpseGRUPolicy, weights: dict[str, Tensor], where: str) -> None:
    """Puts the authors' weights of pi into a policy of ours.

    The authors' mean is sigmoid(z) in [0, 1], ours tanh(z') in [-1, 1]; z' = z / 2 makes them the same location.

    Args:
        policy: of the same shape.
        weights: by the authors' names.
        where: what to call the weights in an error.

    Raises:
        CheckpointError: if a weight is missing, has no place or another shape.
    """
    has_convolution = any(name.startswith("state_encoder.3.") for name in weights)
    first = "reduce.0" if has_convolution else "fc1.0"
    rules = (
        (r"^state_encoder\.0\.", f"extractor.{first}."),
        (r"^state_encoder\.[23]\.", "extractor.fully_connected."),
        (r"^gru\.(.*)_l0$", r"gru.\1"),
        (r"^actor\.0\.", "action."),
        (r"^critic\.0\.", "value."),
    )
    renamed = {}
    for name, value in weights.items():
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        renamed[name] = value / 2 if name.startswith("action.") else value
    action = policy.action_net
    assert isinstance(action, nn.Sequential)
    parts = {"extractor": policy.features_extractor, "gru": policy.gru, "action": action[0], "value": policy.value_net}
    load_exactly(nn.ModuleDict(parts), renamed, where)
