"""The page about a packed run: what it knows, how well, at what cost, and where it fails."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import yaml

import gfnet_env
from agents.evaluation.budgets import apply_exit_rule
from agents.evaluation.record import EvaluationRecord
from agents.recognition.recognizer import Recognizer
from agents.runs.config import RunConfig

_NORMAL_95 = 1.959964
_NAMED_CLASSES = 20


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a share of independent trials, by Wilson's score.

    Args:
        share: in [0, 1].
        count: of trials, 1 or more.

    Returns:
        Its lower and upper end.
    """
    square = _NORMAL_95**2
    center = (share + square / (2 * count)) / (1 + square / count)
    half = _NORMAL_95 / (1 + square / count) * math.sqrt(share * (1 - share) / count + square / (4 * count**2))
    return max(0.0, center - half), min(1.0, center + half)


def model_card(
    name: str,
    config: RunConfig,
    recognizer: Recognizer,
    metrics: Mapping[str, Any],
    record: EvaluationRecord | None,
    license: str | None,
) -> str:
    """The page, in Markdown, with the header that the Hugging Face Hub reads.

    Args:
        name: its title.
        config: of the run.
        recognizer: of the run, with the rule that it is to stop by.
        metrics: what `metrics.json` holds; empty if the run was not evaluated.
        record: of the run's policy on the held-out images; None if the run was not evaluated.
        license: of the weights, by its SPDX id; None says that none was given.

    Returns:
        The text.
    """
    kind = "image" if recognizer.num_frames is None else "video"
    header: dict[str, Any] = {
        "library_name": "gfnet-gym",
        "pipeline_tag": f"{kind}-classification",
        "tags": ["glance-and-focus", "early-exit", "reinforcement-learning"],
    }
    if license is not None:
        header["license"] = license.lower()
    sections = (
        f"---\n{yaml.safe_dump(header, sort_keys=False)}---",
        f"# {name}",
        _networks(config, recognizer),
        "## Use",
        _use(name, recognizer),
        "## Data",
        _data(config, recognizer, metrics),
        "## Accuracy and cost",
        _accuracy(metrics),
        "## Stopping",
        _stopping(recognizer, record),
        "## Limits",
        _limits(recognizer, metrics),
        "## License",
        f"The weights: {license}." if license else "None was given for the weights. Ask who made them.",
        "## Origin",
        _origin(metrics),
    )
    return "\n\n".join(sections) + "\n"


def _networks(config: RunConfig, recognizer: Recognizer) -> str:
    spec = recognizer.classifier.spec
    glance, sizes = f"{spec.glance_side}x{spec.glance_side}", " or ".join(map(str, spec.patch_sizes))
    return (
        "A Glance and Focus Network ([Huang et al., 2022](https://arxiv.org/abs/2201.03014)): it looks at the whole at "
        f"{glance} pixels, then at up to {spec.num_glimpses - 1} patches of {sizes} pixels at full resolution. The "
        f"encoder is `{spec.encoder}`, the head `{spec.head}`; the places come from `{config.stage2.agent}`."
    )


def _use(name: str, recognizer: Recognizer) -> str:
    kind = "picture.jpg" if recognizer.num_frames is None else "clip.mp4"
    return f"""```python
import agents

recognizer = agents.load_recognizer("{name}")  # this folder, or hf://OWNER/NAME
print(recognizer(["{kind}"]))
```

It needs gfnet-gym {gfnet_env.__version__}, and from the Hub its extra `hub`. All weights are safetensors: loading them
runs no code."""


def _data(config: RunConfig, recognizer: Recognizer, metrics: Mapping[str, Any]) -> str:
    height, width = config.data.image_size
    names = recognizer.class_names
    shown = ", ".join(names[:_NAMED_CLASSES]) + (", ..." if len(names) > _NAMED_CLASSES else "")
    text = f"Trained on `{config.data.kind}` at {height}x{width} pixels. It knows {len(names)} classes: {shown}."
    if "classes" in metrics:
        fewest = min(metrics["classes"]["images"])
        text += f" It was judged on {metrics['images']} held-out images, at least {fewest} of each class."
    return text


def _accuracy(metrics: Mapping[str, Any]) -> str:
    if not metrics:
        return "Not measured: the run was not evaluated."
    count, policies, costs = metrics["images"], metrics["accuracy"], metrics["multiply_adds"]
    names = {"learned": "this policy", "random": "random places"}
    shown = [name for name in names if name in policies]
    rows = [["t", "multiply-adds", *(names[name] for name in shown)], ["---"] * (2 + len(shown))]
    for step, cost in enumerate(costs["cumulative"]):
        rows.append([str(step + 1), f"{cost:,}", *(_with_interval(policies[name][step], count) for name in shown)])
    if (whole := metrics["full_resolution_accuracy"]) is not None:
        cells = ["the whole image", f"{costs['full_resolution']:,}", _with_interval(whole, count)]
        rows.append([*cells, *[""] * (len(shown) - 1)])
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    return f"After t glimpses, on {count} held-out images, with 95 % intervals (Wilson) over images:\n\n{table}"


def _with_interval(share: float, count: int) -> str:
    low, high = wilson_interval(share, count)
    return f"{share:.3f} ({low:.3f} to {high:.3f})"


def _stopping(recognizer: Recognizer, record: EvaluationRecord | None) -> str:
    rule, calibration = recognizer.rule, recognizer.calibration
    rows = [", ".join(f"{value:.6g}" for value in row) for row in rule.thresholds.tolist()]
    text = f"It stops above these thresholds on {rule.criterion}, by step (`inf` never stops): `{'; '.join(rows)}`."
    if record is not None:
        found, count = apply_exit_rule(record, rule), len(record.label)
        text += (
            f" On the {count} held-out images that gives accuracy {_with_interval(found.accuracy, count)} with "
            f"{found.cost:,.0f} multiply-adds an image and {found.expected_length:.2f} glimpses."
        )
    if calibration is None:
        return f"{text} The run was not calibrated, so it takes thresholds but no budgets."
    lowest, highest = calibration.multiply_adds.min(), calibration.multiply_adds.max()
    return (
        f"{text} `recognizer.use(budget=...)` takes budgets from {lowest:,} to {highest:,}, for which thresholds are "
        f"found on {len(calibration.label)} other images."
    )


def _limits(recognizer: Recognizer, metrics: Mapping[str, Any]) -> str:
    lines = [
        "Every image gets one of the classes above, also one that shows none of them.",
        "Accuracy, confidence and what a budget costs hold for images like those that it was judged on.",
        "Objects that the glance is too coarse for are found only where the policy looks.",
    ]
    calibration = recognizer.calibration
    if calibration is not None and len(calibration.label) < 200:
        lines.append(f"Thresholds were found on {len(calibration.label)} images, which are few.")
    if warning := metrics.get("diagnostics", {}).get("warning"):
        lines.append(warning)
    return "\n".join(f"- {line}" for line in lines)


def _origin(metrics: Mapping[str, Any]) -> str:
    if not metrics:
        return f"Packed by gfnet-gym {gfnet_env.__version__}."
    made = metrics["made_by"]
    facts = ", ".join(
        f"{name} {made[name]}" for name in ("version", "commit", "torch", "device", "date") if name in made
    )
    return f"Evaluated by gfnet-gym: {facts}. Settings: `config.yaml`. Other results: `metrics.json`."
