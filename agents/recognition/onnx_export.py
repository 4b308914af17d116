"""A trained run as ONNX graphs, for machines without Python's deep-learning stack (Fig. 8: one image at a time).

    glance.onnx     images (1, 3, H, W) uint8                   -> features, hidden_out, logits
    focus_T.onnx    patches (1, 3, P, P) uint8, hidden          -> features, hidden_out, logits, at step T
    policy.onnx     parts of the observation, state             -> location (1, 2) in [0, 1], state_out
    onnx_runner.py  recognises images with ONNX Runtime and NumPy alone

Heads whose work is the same at every step have one graph, `focus.onnx`; only a recurrent policy has a state. The parts
of the observation are those of `gfnet_env.observation` that the policy reads, under their names.
`glance.onnx` carries what the runner has to know in its metadata, the entry `gfnet`, as JSON: thresholds, criterion,
sizes, class names, multiply-adds, and which graph serves which step.
"""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from agents.policies.deterministic import DeterministicPolicy
from agents.recognition.recognizer import Recognizer
from classifiers.files import write_atomically, write_text
from classifiers.inference.frozen import FrozenClassifier
from classifiers.networks.full_resolution import FullResolutionNetwork
from classifiers.networks.geometry import resizing_matrices, top_left_px
from classifiers.networks.glimpse import View
from classifiers.networks.heads import CascadeHead
from gfnet_env.observation import observe

RUNNER = Path(__file__).with_name("onnx_runner.py")
"""The program that runs exported graphs; it needs nothing of this project."""


class _Glance(nn.Module):
    """The first look at images of one size. Resizing and cropping are linear along each axis: two constant matrices."""

    def __init__(self, classifier: FrozenClassifier, image_size: tuple[int, int]) -> None:
        super().__init__()
        self.classifier = classifier
        side, mode = classifier.spec.glance_side, classifier.spec.resize_mode
        self.rows: Tensor
        self.columns: Tensor
        rows, columns = resizing_matrices(image_size, (side, side), mode)
        if (centre := classifier.first_location(1)) is not None:
            top, left = top_left_px(centre.cpu(), image_size, side)[0].tolist()
            rows = torch.eye(image_size[0])[top : top + side]
            columns = torch.eye(image_size[1])[:, left : left + side]
        self.register_buffer("rows", rows)
        self.register_buffer("columns", columns)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        small = self.rows @ images.float() @ self.columns
        glimpse = self.classifier.glance(self.classifier.normalize(small))
        return glimpse.features, glimpse.hidden, glimpse.logits


class _Focus(nn.Module):
    """A look at a patch; at one given step where the head's work differs from step to step."""

    def __init__(self, classifier: FrozenClassifier, step: int | None) -> None:
        super().__init__()
        self.classifier = classifier
        self.step = step

    def forward(self, patches: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if self.step is None:
            glimpse = self.classifier.focus(self.classifier.normalize(patches.float()), hidden)
            return glimpse.features, glimpse.hidden, glimpse.logits
        head = self.classifier.head
        assert isinstance(head, CascadeHead)
        features, pooled = self.classifier.local_encoder.encode_pixels(patches.float())
        before, size = self.step - 1, head.pooled_size
        seen = torch.cat([hidden[:, : before * size], pooled], dim=1)
        hidden = torch.cat([seen, hidden[:, self.step * size : -1], hidden[:, -1:] + 1], dim=1)
        return features, hidden, head.classifiers[self.step - 2](seen)


class _Policy(nn.Module):
    """The deterministic policy; its inputs are the parts of the observation in the policy's order, then the state."""

    def __init__(self, policy: DeterministicPolicy) -> None:
        super().__init__()
        self.network = policy.network  # registers its weights
        self.policy = policy

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        keys = self.policy.observes
        state = inputs[len(keys)] if len(inputs) > len(keys) else None
        location, state = self.policy.decide(dict(zip(keys, inputs, strict=False)), state)
        return (location,) if state is None else (location, state)


def export_onnx(recognizer: Recognizer, out: Path) -> list[Path]:
    """Writes a recogniser as ONNX graphs with its thresholds, and the program that runs them.

    Args:
        recognizer: of a run, with the thresholds in use; it is left as it was.
        out: folder; made if missing, files of the same names are replaced.

    Returns:
        The files.

    Raises:
        ModuleNotFoundError: if the extra `onnx` is not installed.
        ValueError: if the recogniser does not know its images' size, or its policy is not a trained network.
        OSError: if the folder can't be written.
    """
    policy = _exportable_policy(recognizer)
    classifier = copy.deepcopy(recognizer.classifier).cpu()
    is_cascade = isinstance(classifier.head, CascadeHead)
    side = classifier.spec.patch_size
    assert recognizer.image_size is not None
    image = torch.zeros(1, 3, *recognizer.image_size, dtype=torch.uint8)
    patch = torch.zeros(1, 3, side, side, dtype=torch.uint8)
    with torch.no_grad():
        glimpse = classifier.glance(image)
    hidden = torch.zeros_like(glimpse.hidden)
    steps = range(2, recognizer.num_glimpses + 1)
    focus_graphs = [f"focus_{step}.onnx" if is_cascade else "focus.onnx" for step in steps]
    outputs = ("features", "hidden_out", "logits")
    inputs = observe(View.first(glimpse, image, recognizer.num_glimpses), policy.observes)
    with torch.no_grad():
        state = policy.decide(inputs, None)[1]
    if state is not None:
        inputs["state"] = torch.zeros_like(state)
    facts = {
        "criterion": recognizer.rule.criterion,
        "thresholds": [str(threshold) for threshold in recognizer.rule.thresholds],  # JSON has no infinity
        "patch_size": side,
        "image_size": list(recognizer.image_size),
        "crop_pct": recognizer.crop_pct,
        "interpolation": recognizer.interpolation,
        "class_names": list(recognizer.class_names),
        "multiply_adds": recognizer.cumulative_multiply_adds.tolist(),
        "focus_graphs": focus_graphs,
        "state_shape": [1, 0] if state is None else list(state.shape),
    }
    written = []
    for step, name in zip(steps, focus_graphs, strict=True):
        if out / name not in written:
            focus = _Focus(classifier, step if is_cascade else None)
            written.append(_write(out / name, focus, {"patches": patch, "hidden": hidden}, outputs, facts))
    policy_outputs = ("location",) if state is None else ("location", "state_out")
    written.append(_write(out / "policy.onnx", _Policy(policy), inputs, policy_outputs, facts))
    glance = _Glance(classifier, recognizer.image_size)
    written.append(
        _write(out / "glance.onnx", glance, {"images": image}, outputs, facts)
    )  # last: it makes the rest whole
    write_text(out / RUNNER.name, RUNNER.read_text(encoding="utf-8"))
    return [*written, out / RUNNER.name]


def _exportable_policy(recognizer: Recognizer) -> DeterministicPolicy:
    """A copy of the policy on the CPU; raises before anything is written if the recogniser can't be exported."""
    try:
        import onnx  # noqa: F401 - said now rather than halfway
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error.name} is missing; pip install 'gfnet-gym[onnx]'") from error
    if recognizer.image_size is None:
        raise ValueError("the recogniser does not know its images' size; load it from a run")
    if not isinstance(recognizer.policy, DeterministicPolicy):
        raise ValueError("the run's policy is not a trained network; export a run whose stage2.agent learns")
    if recognizer.classifier.spec.first_look == "random":
        raise ValueError(
            "the run's first look is at a random place, which a graph can't draw; export a run with first_look: glance "
            "or centre"
        )
    return DeterministicPolicy(copy.deepcopy(recognizer.policy.network).cpu(), recognizer.policy.observes)


def export_full_resolution(network: FullResolutionNetwork, image_size: tuple[int, int], path: Path) -> Path:
    """Writes the baseline as a graph, images (1, 3, H, W) uint8 -> logits.

    Args:
        network: the full-resolution network; it is left as it was.
        image_size: (H, W) in pixels.
        path: the file.

    Returns:
        The file.
    """
    image = torch.zeros(1, 3, *image_size, dtype=torch.uint8)
    return _write(path, copy.deepcopy(network).cpu(), {"images": image}, ("logits",))


def _write(
    path: Path,
    module: nn.Module,
    inputs: dict[str, Tensor],
    outputs: Sequence[str],
    facts: dict[str, Any] | None = None,
) -> Path:
    with warnings.catch_warnings(), torch.no_grad(), _unchecked_distributions():
        warnings.simplefilter("ignore")  # of the exporter's own making
        program = torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            input_names=list(inputs),
            output_names=list(outputs),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    if facts is not None:
        entry = model.metadata_props.add()
        entry.key, entry.value = "gfnet", json.dumps(facts)
    content = model.SerializeToString()
    write_atomically(path, lambda temporary: Path(temporary).write_bytes(content))
    return path


@contextmanager
def _unchecked_distributions() -> Iterator[None]:
    """Some policies build a distribution to take its mean; its checks depend on values, which a graph can't."""
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(__debug__)
