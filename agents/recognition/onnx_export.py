"""A trained run as ONNX graphs, for machines without PyTorch (Fig. 8: one image at a time).

    glance.onnx     images (1, 3, H, W) uint8                   -> features, hidden_out, logits, pooled
    focus_T_P.onnx  patches (1, 3, P, P) uint8, hidden          -> the same, at step T
    policy.onnx     parts of the observation, state             -> location (1, 2) in [0, 1], state_out
    onnx_runner.py  recognizes images with ONNX Runtime or OpenVINO, and NumPy
    decoding.py     reads image files for it, with Pillow

Clips have one dimension more, (1, F, 3, H, W). For them there is, too,

    recordings.py    reads folders of frames and, with FFmpeg, videos

If the head uses the same weights at every step, there is one graph for all of them, without the T in its name; if
patches have one size, its name is without the P. Only recurrent policies have a state. The parts of the observation are
those of `gfnet_env.observation` that the policy reads, by name. The metadata of `glance.onnx`, entry `gfnet`, is JSON
with everything else the runner needs: thresholds, criterion, sizes, class names, multiply-adds of each size history,
and the graph of each step and size.
"""

from __future__ import annotations

import copy
import inspect
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from agents.policies.deterministic import DeterministicPolicy
from agents.recognition.onnx_runner import OnnxRecognizer
from agents.recognition.recognizer import Recognizer
from classifiers.data import decoding
from classifiers.data.clips import recordings
from classifiers.files import json_text, write_bytes, write_text
from classifiers.inference.frozen import FrozenClassifier
from classifiers.networks.full_resolution import FullResolutionNetwork
from classifiers.networks.glimpse import Glimpse, View
from gfnet_env.observation import PIXEL_KEYS, observe

RUNNER = Path(__file__).with_name("onnx_runner.py")
"""The program that runs exported graphs; it needs nothing of this project but the copy of `decoding.py` beside it."""

Precision = Literal["fp32", "fp16", "int8", "int8-calibrated"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

_GLIMPSE = ("features", "hidden_out", "logits", "pooled")


class _Graph(nn.Module):
    """A function of tensors, with the networks whose weights it uses."""

    def __init__(self, networks: nn.Module, function: Callable[..., tuple[Tensor, ...]]) -> None:
        super().__init__()
        self.networks = networks
        self.function = function

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return self.function(*inputs)


class _Maximum(nn.Module):
    """Global max pooling as the exporter of PyTorch 2.9 knows it, which lacks `adaptive_max_pool2d`."""

    def forward(self, maps: Tensor) -> Tensor:
        return maps.amax((-2, -1), keepdim=True)


def export_onnx(
    recognizer: Recognizer, out: Path | str, *, precision: Precision = "fp32", images: np.ndarray | None = None
) -> list[Path]:
    """Writes a recognizer as ONNX graphs with its thresholds, and the program that runs them.

    Args:
        recognizer: of a run, with the thresholds to use; it is not changed.
        out: folder; created if missing, existing files are replaced.
        precision: of weights and arithmetic. `"fp16"` halves the files, and CPUs compute in float32 all the same.
            `"int8"` is ONNX Runtime's dynamic quantization: files of a quarter. `"int8-calibrated"` is NNCF's: it
            finds the ranges of the convolutions' inputs beforehand and leaves the rest and the policy as they are.
        images: (N, H, W, 3) uint8 with which `"int8-calibrated"` finds ranges, some 100 training images.

    Returns:
        The files.

    Raises:
        ModuleNotFoundError: if the extra `onnx`, or for `"int8-calibrated"` the extra `nncf`, is not installed.
        ValueError: if the recognizer does not know its image size, or its policy is not a trained network, or
            `"int8-calibrated"` has no images.
        OSError: if the folder can't be written.
    """
    out, policy = Path(out), _exportable_policy(recognizer)
    if precision == "int8-calibrated":
        return _export_calibrated(recognizer, out, images)
    assert recognizer.image_size is not None
    classifier = copy.deepcopy(recognizer.classifier).cpu()
    image = _blank(classifier, recognizer.image_size)
    with torch.no_grad():
        glimpse = classifier.glance(image)
    focus_graphs = _write_focus(out, classifier, torch.zeros_like(glimpse.hidden), precision)
    state_shape = _write_policy(out, classifier, policy, glimpse, image, precision)
    facts = {
        "criterion": recognizer.rule.criterion,
        "thresholds": recognizer.rule.thresholds.astype(str).tolist(),  # JSON has no infinity
        "patch_sizes": list(classifier.spec.patch_sizes),
        "image_size": list(recognizer.image_size),
        "num_frames": recognizer.num_frames,
        "crop_pct": recognizer.crop_pct,
        "interpolation": recognizer.interpolation,
        "class_names": list(recognizer.class_names),
        "multiply_adds": recognizer.cumulative_multiply_adds.tolist(),
        "focus_graphs": focus_graphs,
        "state_shape": state_shape,
    }
    # the glance is written last: a folder that has it is complete
    glance = _Graph(classifier, classifier.glance)
    _write(out / "glance.onnx", glance, {"images": image}, _GLIMPSE, precision, facts)
    graphs = dict.fromkeys(name for names in focus_graphs for name in names)
    written = [out / name for name in (*graphs, "policy.onnx", "glance.onnx")]
    return [*written, *_write_program(out, with_clips=recognizer.num_frames is not None)]


def _export_calibrated(recognizer: Recognizer, out: Path, images: np.ndarray | None) -> list[Path]:
    """Exports at full precision into a folder of its own, then writes what NNCF makes of its graphs."""
    if images is None:
        raise ValueError("int8-calibrated finds ranges with images; pass some training images")
    try:
        import nncf
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error.name} is missing; pip install 'gfnet-gym[nncf]'") from error
    import onnx

    nncf.set_log_level(logging.ERROR)
    with TemporaryDirectory() as folder:
        files = export_onnx(recognizer, folder)
        seen = _inputs_by_graph(Path(folder), images)
        for path in files:  # the glance is the last of the graphs
            content = path.read_bytes()
            if path.name in seen:
                inputs = seen[path.name]
                rest = nncf.IgnoredScope(types=["Gemm", "MatMul", "Add", "Mul"], validate=False)
                dataset = nncf.Dataset(inputs)
                model = nncf.quantize(onnx.load(path), dataset, subset_size=len(inputs), ignored_scope=rest)
                content = model.SerializeToString()
            write_bytes(out / path.name, content)
    return [out / path.name for path in files]


def _inputs_by_graph(folder: Path, images: np.ndarray) -> dict[str, list[dict[str, np.ndarray]]]:
    """What the glance and the focus graphs of a folder get when images are looked at with patches of each size."""
    recognizer, seen = OnnxRecognizer(folder), {}
    graphs = {"glance.onnx": recognizer.glance}
    for names, row in zip(recognizer.facts["focus_graphs"], recognizer.focus, strict=True):
        graphs |= dict(zip(names, row, strict=True))

    def note(run: Callable[[Any], Any], inputs: list[dict[str, np.ndarray]], given: dict[str, np.ndarray]) -> Any:
        inputs.append(given)
        return run(given)

    for name, graph in graphs.items():
        seen[name] = list[dict[str, np.ndarray]]()
        graph._run = partial(note, graph._run, seen[name])
    for size in range(recognizer.thresholds.shape[1]):
        recognizer.thresholds[:] = -np.inf
        recognizer.thresholds[:, size] = np.inf
        for image in images:
            recognizer.predict(image)
    return seen


def _write_focus(out: Path, classifier: FrozenClassifier, hidden: Tensor, precision: Precision) -> list[list[str]]:
    """Writes the graphs of all focus steps; their names by step and size."""
    sides, names = classifier.spec.patch_sizes, []
    for step in range(2, classifier.spec.num_glimpses + 1):
        names.append([_focus_name(classifier, step, side) for side in sides])
        if step > 2 and not classifier.head.varies_by_step:
            continue
        focus = partial(classifier.focus, step=step)
        for side, name in zip(sides, names[-1], strict=True):
            graph = _Graph(classifier, focus)
            inputs = {"patches": _blank(classifier, (side, side)), "hidden": hidden}
            _write(out / name, graph, inputs, _GLIMPSE, precision)
    return names


def _write_policy(
    out: Path,
    classifier: FrozenClassifier,
    policy: DeterministicPolicy,
    glimpse: Glimpse,
    image: Tensor,
    precision: Precision,
) -> list[int]:
    """Writes the policy's graph: parts of the observation in the policy's order, then the state; the state's shape."""
    keys, spec = policy.observation_keys, classifier.spec
    view = View.first(glimpse, image, spec.num_glimpses, num_sizes=len(spec.patch_sizes))
    # copies: the exporter would make one input of two that are the same tensor
    inputs = {name: part.clone() for name, part in observe(view, keys).items()}
    with torch.no_grad():
        state = policy.decide(inputs, None)[1]
    if state is not None:
        inputs["state"] = torch.zeros_like(state)

    def decide(*parts: Tensor) -> tuple[Tensor, ...]:
        observation = dict(zip(keys, parts, strict=False))
        location, state = policy.decide(observation, parts[-1] if len(parts) > len(keys) else None)
        return (location,) if state is None else (location, state)

    outputs = ("location",) if state is None else ("location", "state_out")
    _write(out / "policy.onnx", _Graph(policy.network, decide), inputs, outputs, precision)
    return [1, 0] if state is None else list(state.shape)


def _blank(classifier: FrozenClassifier, size: tuple[int, int]) -> Tensor:
    """A black image or clip, uint8."""
    return classifier.local_encoder.blank(size).to(torch.uint8)


def _focus_name(classifier: FrozenClassifier, step: int, side: int) -> str:
    parts = ["focus"]
    if classifier.head.varies_by_step:
        parts.append(str(step))
    if len(classifier.spec.patch_sizes) > 1:
        parts.append(str(side))
    return "_".join(parts) + ".onnx"


def _write_program(out: Path, *, with_clips: bool) -> list[Path]:
    modules = (decoding, recordings) if with_clips else (decoding,)
    written = []
    for path in (RUNNER, *(Path(inspect.getfile(module)) for module in modules)):
        text = path.read_text(encoding="utf-8")
        for module in (decoding, recordings):
            text = text.replace(f"from {module.__name__} import", f"from {module.__name__.rpartition('.')[2]} import")
        write_text(out / path.name, text)
        written.append(out / path.name)
    return written


def _exportable_policy(recognizer: Recognizer) -> DeterministicPolicy:
    """A copy of the policy on the CPU; an error, before anything is written, if the recognizer can't be exported."""
    try:
        import onnx  # noqa: F401 - checks that the exporter will find them
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error.name} is missing; pip install 'gfnet-gym[onnx]'") from error
    if recognizer.image_size is None:
        raise ValueError("the recognizer does not know its image size; pass image_size")
    if not isinstance(recognizer.policy, DeterministicPolicy):
        raise ValueError("the run's policy is not a trained network; export a run whose stage2.agent learns")
    if pixels := set(PIXEL_KEYS).intersection(recognizer.policy.observation_keys):
        raise ValueError(
            f"the policy reads {min(pixels)}, which the exported program lacks; export one that reads maps"
        )
    if len(recognizer.classifier.spec.scales) > 1:
        raise ValueError("the run has several patch_scales, which the exported program lacks; export one without")
    if recognizer.classifier.spec.first_look == "random":
        raise ValueError(
            "the run's first look is at a random place, which a graph can't draw; export a run with first_look: glance "
            "or center"
        )
    return DeterministicPolicy(copy.deepcopy(recognizer.policy.network).cpu(), recognizer.policy.observation_keys)


def export_full_resolution(network: FullResolutionNetwork, image_size: tuple[int, int], path: Path) -> Path:
    """Writes the baseline as a graph: uint8 images (1, 3, H, W) or clips (1, F, 3, H, W) to logits."""
    network = copy.deepcopy(network).cpu()
    return _write(path, network, {"images": network.encoder.blank(image_size).to(torch.uint8)}, ("logits",))


def _write(
    path: Path,
    module: nn.Module,
    inputs: dict[str, Tensor],
    outputs: Sequence[str],
    precision: Precision = "fp32",
    facts: dict[str, Any] | None = None,
) -> Path:
    """Writes a graph; of the module, a copy made for it, global max pooling is replaced."""
    for parent in [*module.modules()]:
        for name, child in parent.named_children():
            if isinstance(child, nn.AdaptiveMaxPool2d) and child.output_size == 1:
                setattr(parent, name, _Maximum())
    with warnings.catch_warnings(), torch.no_grad(), _unchecked_distributions():
        warnings.simplefilter("ignore")  # from inside the exporter
        program = torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            input_names=list(inputs),
            output_names=list(outputs),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model = _at(precision, program.model_proto)
    if facts is not None:
        entry = model.metadata_props.add()
        entry.key, entry.value = "gfnet", json_text(facts)
    write_bytes(path, model.SerializeToString())
    return path


def _at(precision: Precision, model: Any) -> Any:
    """An ONNX model with the same inputs and outputs whose insides have another precision."""
    if precision == "fp16":
        from onnxruntime.transformers.float16 import convert_float_to_float16

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # weights too small for float16 become its smallest number
            return convert_float_to_float16(model, keep_io_types=True)
    if precision == "int8":
        import onnx
        from onnxruntime.quantization import QuantType, quantize_dynamic

        with TemporaryDirectory() as folder:
            quantized = Path(folder) / "quantized.onnx"
            logging.disable(logging.WARNING)  # advice to prepare the graph, which fails for graphs of this exporter
            try:
                # ONNX Runtime's convolutions of integers take unsigned weights alone
                quantize_dynamic(model, quantized, weight_type=QuantType.QUInt8)
            finally:
                logging.disable(logging.NOTSET)
            return onnx.load(quantized)
    return model


@contextmanager
def _unchecked_distributions() -> Iterator[None]:
    """Some policies build a distribution to take its mean; its value checks can't be exported."""
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(__debug__)
