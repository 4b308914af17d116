"""What must not move when the code is rearranged: computed here, kept in `pinned.json`, compared by `test_pinned.py`.

`python tests/pinned.py` writes the file anew; only a change that is meant to change results, and says so in the
CHANGELOG, does that.
"""

from __future__ import annotations

import json
import tempfile
from contextlib import redirect_stdout
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from agents.runs.config_files import CONFIGS, built_in_configs, flat_settings, load_config
from classifiers.data.decoding import decode_image, decode_whole
from classifiers.networks.encoders import build_encoder
from scripts.cli import main

PINNED = Path(__file__).with_suffix(".json")
ENCODERS = (
    *("small_resnet", "resnet18", "resnet50", "densenet121", "densenet169", "densenet201", "regnety_600m"),
    *("regnety_800m", "regnety_1.6g", "mobilenetv3_large_100", "mobilenetv3_large_125", "efficientnet_b2"),
    *("efficientnet_b3", "timm:convnext_atto", "timm:tf_efficientnet_lite0", "torchvision:swin_t"),
    *("torchvision:mobilenet_v3_small", "tsm4:resnet18"),
)
COSTS = (
    *("demo", "synthetic_signs", "synthetic_gestures", "ms_synthetic_signs", "resnet50_96", "mobilenetv3_large_100_96"),
    *("efficientnet_b3_144", "regnety_600m_96", "densenet121_96", "ms_resnet50", "something_something_v2_8"),
)


def configs() -> dict[str, Path | str]:
    """Every config that comes with the package, the ablations' too, by a name to keep it under."""
    return {**{name: name for name in built_in_configs()}, **{f"ablations/{p.stem}": p for p in _ablations()}}


def _ablations() -> list[Path]:
    return sorted((CONFIGS / "ablations").glob("*.yaml"))


def resolved(name: Path | str) -> dict[str, Any]:
    """A config's settings by dotted key."""
    return {key: value for key, value in flat_settings(load_config(str(name))).items() if value is not None}


def encoding(name: str) -> list[float]:
    """Some numbers of an encoder's feature map, pooled vector and logits, for random weights and one random image."""
    torch.manual_seed(0)
    encoder = build_encoder(name, 7).eval()
    frames = (4,) if name.startswith("tsm4") else ()
    image = torch.rand(1, *frames, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found = encoder(image)
        logits = encoder.classifier(found.pooled)
    return [float(value) for part in (found.features, found.pooled, logits) for value in _summary(part)]


def _summary(tensor: torch.Tensor) -> list[float]:
    flat = tensor.flatten().double()
    ramp = torch.linspace(-1, 1, len(flat), dtype=torch.float64)
    return [len(flat), float(flat.mean()), float(flat.std(correction=0)), float((flat * ramp).mean())]


def cost(name: str) -> dict[str, Any]:
    """What `gfnet cost NAME --json` prints."""
    out = StringIO()
    with redirect_stdout(out):
        assert main(["cost", name, "--json"]) == 0
    return dict(json.loads(out.getvalue()))


def pictures() -> dict[str, list[float]]:
    """Corner colors and the mean of an image file of every kind, whole and resized to 24x20."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, content in _files().items():
            path = Path(folder) / name
            path.write_bytes(content)
            for pixels in (np.asarray(decode_whole(path)), decode_image(path, (24, 20))):
                corners = [*pixels[0, 0], *pixels[0, -1], *pixels[-1, 0], *pixels[-1, -1]]
                found.setdefault(name, []).extend([float(value) for value in (*corners, pixels.mean())])
    return found


def _files() -> dict[str, bytes]:
    ramp = np.arange(48)[:, None] * 5 + np.arange(64)[None] * 0
    across = np.arange(64)[None] * 4 + np.arange(48)[:, None] * 0
    color = Image.fromarray(np.stack([ramp, across, 255 - ramp], axis=2).astype(np.uint8))
    alpha = Image.fromarray(across.astype(np.uint8))
    clear = color.copy()
    clear.putalpha(alpha)
    gray = color.convert("L")
    turned = color.getexif()
    turned[0x0112] = 6
    deep = Image.fromarray((across * 256).astype(np.uint16))
    cases: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        **{f"color.{suffix}": (color, {}) for suffix in ("png", "bmp", "tiff", "ppm")},
        **{"color.jpg": (color, {"quality": 95}), "turned.jpg": (color, {"quality": 95, "exif": turned})},
        **{"turned.png": (color, {"exif": turned}), "color.webp": (color, {"lossless": True})},
        **{"gray.png": (gray, {}), "gray.jpg": (gray, {"quality": 95}), "bits.png": (gray.convert("1"), {})},
        **{"alpha.png": (clear, {}), "gray_alpha.png": (clear.convert("LA"), {}), "deep.png": (deep, {})},
        **{"palette.png": (color.convert("P"), {}), "palette.gif": (color.convert("P"), {})},
        **{"cmyk.jpg": (color.convert("CMYK"), {"quality": 95}), "palette_clear.png": (_with_clear_index(color), {})},
    }
    return {name: _encoded(image, name, options) for name, (image, options) in cases.items()}


def _with_clear_index(color: Image.Image) -> Image.Image:
    image = color.convert("P")
    image.info["transparency"] = image.getpixel((0, 0))
    return image


def _encoded(image: Image.Image, name: str, options: dict[str, Any]) -> bytes:
    stream, suffix = BytesIO(), name.rsplit(".", 1)[1]
    image.save(stream, {"jpg": "JPEG", "tiff": "TIFF"}.get(suffix, suffix.upper()), **options)
    return stream.getvalue()


def demo_results(folder: Path) -> dict[str, Any]:
    """The results and the learning curve of a run by `gfnet demo`."""
    metrics = json.loads((folder / "metrics.json").read_text())
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    rewards = [line["reward"] for line in lines if line["stage"] == "stage2" and "reward" in line]
    return {
        "accuracy": metrics["accuracy"],
        "multiply_adds": metrics["multiply_adds"],
        "images": metrics["images"],
        "env_steps": metrics["env_steps"],
        "rewards": rewards,
    }


def common_and_own(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The values that most configs share, once, and what each config has beside or instead of them."""
    first = found["synthetic_signs"]
    common = {key: value for key, value in first.items() if sum(each.get(key) == value for each in found.values()) > 20}
    own = {}
    for name, tree in found.items():
        own[name] = {key: value for key, value in tree.items() if common.get(key) != value}
        own[name].update({key: None for key in common if key not in tree})
    return {"common": common, **own}


def write(tiny_run: Path) -> None:
    """Computes everything and writes it, a line for each entry."""
    content = {
        "configs": common_and_own({name: resolved(path) for name, path in configs().items()}),
        "encoders": {name: encoding(name) for name in ENCODERS},
        "costs": {name: cost(name) for name in COSTS},
        "pictures": pictures(),
        "demo": demo_results(tiny_run),
    }
    groups = [
        f" {json.dumps(group)}: {{\n"
        + ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in entries.items())
        + "\n }"
        for group, entries in content.items()
    ]
    PINNED.write_text("{\n" + ",\n".join(groups) + "\n}\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        changes = [
            *("data.scenes.height=96", "data.scenes.width=128", "data.num_train=30", "data.num_val=20"),
            *("data.num_test=12", "stage2.num_envs=8", "stage2.env_steps=48", "oracle_grid=2"),
        ]
        out = Path(folder) / "demo"
        assert main(["demo", "--out", str(out), "--quiet", "--set", *changes]) == 0
        write(out)
