"""Recognizes images or clips with the ONNX graphs beside this file; needs NumPy, Pillow, and ONNX Runtime or OpenVINO.

python onnx_runner.py IMAGE_OR_FOLDER...

A clip is a folder of frames or a video; videos need FFmpeg, the system's or `pip install imageio-ffmpeg`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from classifiers.data.decoding import EXTENSIONS, UnreadableImageError, decode_image

ENGINES = ("onnxruntime", "openvino")
_PROVIDERS = ["CPUExecutionProvider"]


class Graph:
    """A graph on an engine.

    Args:
        path: of the ONNX file.
        engine: `"onnxruntime"` or `"openvino"`, which reads the same files.
        num_threads: of the engine.

    Attributes:
        inputs: names of its inputs.
        facts: the text of its metadata's entry `gfnet`; empty if it has none.
    """

    def __init__(self, path: Path, engine: str, num_threads: int) -> None:
        self.inputs: set[str]
        self.facts: str
        if engine == "openvino":
            import openvino

            model = openvino.Core().read_model(path)
            settings = {"INFERENCE_NUM_THREADS": num_threads, "INFERENCE_PRECISION_HINT": "f32"}
            compiled = openvino.compile_model(model, "CPU", settings)
            self.inputs = {each.get_node().get_friendly_name() for each in model.inputs}
            entry = ["framework", "gfnet"]
            self.facts = model.get_rt_info(entry).astype(str) if model.has_rt_info(entry) else ""
            self._run: Callable[[dict[str, Any]], Any] = lambda inputs: [*compiled(inputs).values()]
        else:
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = options.inter_op_num_threads = num_threads
            options.log_severity_level = 3  # errors
            session = onnxruntime.InferenceSession(path, options, providers=_PROVIDERS)
            self.inputs = {node.name for node in session.get_inputs()}
            self.facts = session.get_modelmeta().custom_metadata_map.get("gfnet", "")
            self._run = lambda inputs: session.run(None, inputs)

    def __call__(self, **inputs: Any) -> Any:
        """The outputs, in order."""
        return self._run(inputs)


class OnnxRecognizer:
    """Looks at one image, or clip, at a time until it is confident.

    Args:
        folder: with `glance.onnx`, the focus graphs and `policy.onnx`.
        num_threads: of the engine.
        engine: what runs the graphs, `"onnxruntime"` or `"openvino"`.
    """

    def __init__(self, folder: Path | str, num_threads: int = 1, engine: str = ENGINES[0]) -> None:
        graphs: dict[str, Graph] = {}

        def load(name: str) -> Graph:
            if name not in graphs:
                graphs[name] = Graph(Path(folder) / name, engine, num_threads)
            return graphs[name]

        self.glance, self.policy = load("glance.onnx"), load("policy.onnx")
        self.facts: dict[str, Any] = json.loads(self.glance.facts)
        self.focus = [[load(name) for name in names] for names in self.facts["focus_graphs"]]  # by step and size
        self.thresholds = np.array(self.facts["thresholds"], np.float64)  # (T - 1, K)

    def predict(self, image: np.ndarray) -> dict[str, Any]:
        """Recognizes one image.

        Args:
            image: (H, W, 3) uint8, RGB, of the size that the graphs were exported for; a clip, (F, H, W, 3).

        Returns:
            `label`, `class`, `confidence`, `steps`, `locations` ((row, col) in [0, 1] each), `patch_sizes` (sides in
            pixels) and `multiply_adds`.

        Raises:
            ValueError: if the image is of another size or type.
        """
        height, width = self.facts["image_size"]
        frames = self.facts.get("num_frames")
        shape = (height, width, 3) if frames is None else (frames, height, width, 3)
        if image.shape != shape or image.dtype != np.uint8:
            raise ValueError(f"image is {image.shape} {image.dtype}; pass {shape} uint8")
        pixels = np.moveaxis(image, -1, -3)[None]
        features, hidden, logits, *pooled = self.glance(images=np.ascontiguousarray(pixels))
        state = np.zeros(self.facts["state_shape"], np.float32)
        (looks, num_sizes), node = self.thresholds.shape, 0  # the node of this episode's size history
        glance, locations, sides = features, np.zeros((1, looks, 2), np.float32), []
        last_size = np.zeros((1, num_sizes), np.float32)
        for step in range(1, looks + 2):
            log_p = logits[0] - logits[0].max()
            log_p = log_p - np.log(np.exp(log_p).sum())
            p = np.exp(log_p)
            score = p.max() if self.facts["criterion"] == "confidence" else (p * log_p).sum()
            size = num_sizes if step > looks else next_size(float(score), self.thresholds[step - 1])
            if size == num_sizes:
                break
            side, next_one = self.facts["patch_sizes"][size], np.eye(num_sizes, dtype=np.float32)[[size]]
            progress = np.eye(looks + 1, dtype=np.float32)[[step - 1]]
            inputs = {"features": features, "hidden": hidden, "state": state}
            inputs |= {"locations": locations, "progress": progress, "glance": glance}
            inputs |= {"last_size": last_size, "next_size": next_one, "pooled": pooled[-1] if pooled else None}
            location, *rest = self.policy(**{name: inputs[name] for name in self.policy.inputs})
            state = rest[0] if rest else state
            room = np.array([height - side, width - side], np.float32)
            top, left = np.clip(np.floor(location[0] * room), 0, room).astype(int)
            patch = np.ascontiguousarray(pixels[..., top : top + side, left : left + side])
            features, hidden, logits, *pooled = self.focus[step - 1][size](patches=patch, hidden=hidden)
            locations[0, step - 1], last_size, node = location[0], next_one, node * num_sizes + 1 + size
            sides.append(side)
        label = int(p.argmax())
        names = self.facts["class_names"]
        return {
            "label": label,
            "class": names[label] if names else str(label),
            "confidence": float(p.max()),
            "steps": step,
            "locations": locations[0, : step - 1].tolist(),
            "patch_sizes": sides,
            "multiply_adds": self.facts["multiply_adds"][node],
        }

    def open(self, path: Path | str) -> np.ndarray:
        """An image file, or a clip's file or folder of frames, scaled to cover the graphs' size and cropped.

        Raises:
            UnreadableImageError: if it can't be decoded.
        """
        height, width = self.facts["image_size"]
        frames = self.facts.get("num_frames")
        if frames is not None:
            from classifiers.data.clips.recordings import Fit, read_clip

            fit = Fit((height, width), self.facts["crop_pct"], self.facts["interpolation"])
            return read_clip(Path(path), frames, fit).frames
        return decode_image(path, (height, width), self.facts["crop_pct"], self.facts["interpolation"])


def next_size(score: float, thresholds: np.ndarray) -> int:
    """The size whose threshold is the upper end of the interval that a score falls into; K above all (Eq. (9))."""
    at_least = np.flatnonzero(thresholds >= score)
    return int(at_least[thresholds[at_least].argmin()]) if len(at_least) else len(thresholds)


def find_files(paths: Sequence[Path], *, clips: bool = False) -> list[Path]:
    """Files as they are named, and the image files of folders at any depth, in order; a clip may be a folder itself."""
    files: list[Path] = []
    for path in paths:
        if clips or not path.is_dir():
            files.append(path)
            continue
        inside = sorted(file for file in path.rglob("*") if file.suffix.lower() in EXTENSIONS and file.is_file())
        if not inside:
            raise UnreadableImageError(f"{path} holds no image; pass one with {', '.join(sorted(EXTENSIONS))} files")
        files += inside
    return files


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints a line of JSON for each image; files of folders that can't be read are skipped and named at the end."""
    parser = argparse.ArgumentParser(
        description="Recognizes images or clips with the ONNX graphs beside this file; prints a line of JSON for each."
    )
    parser.add_argument(
        "images",
        type=Path,
        nargs="+",
        metavar="IMAGE",
        help="image files or folders of them; for networks of clips, videos or folders of frames",
    )
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="of the engine")
    parser.add_argument("--engine", choices=ENGINES, default=ENGINES[0], help="what runs the graphs")
    options = parser.parse_args(arguments)
    recognizer, skipped = OnnxRecognizer(Path(__file__).parent, options.threads, options.engine), []
    try:
        for path in find_files(options.images, clips=recognizer.facts.get("num_frames") is not None):
            try:
                image = recognizer.open(path)
            except UnreadableImageError:
                if path in options.images:
                    raise
                skipped.append(str(path))
                continue
            print(json.dumps({"file": str(path), **recognizer.predict(image)}, allow_nan=False), flush=True)
    except UnreadableImageError as error:
        print(error, file=sys.stderr)
        return 1
    if skipped:
        print(f"skipped {len(skipped)} unreadable images: {', '.join(skipped[:3])}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
