"""Recognises images with the ONNX graphs beside this file; needs ONNX Runtime, NumPy and Pillow.

python onnx_runner.py IMAGE...
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from classifiers.data.decoding import UnreadableImageError, decode_image

Session = Any  # onnxruntime.InferenceSession, which comes without types


class OnnxRecognizer:
    """Looks at one image at a time until it is confident.

    Args:
        folder: with `glance.onnx`, the focus graphs and `policy.onnx`.
        num_threads: of ONNX Runtime.
    """

    def __init__(self, folder: Path | str, num_threads: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = num_threads
        sessions: dict[str, Session] = {}

        def load(name: str) -> Session:
            if name not in sessions:
                sessions[name] = onnxruntime.InferenceSession(
                    Path(folder) / name, options, providers=["CPUExecutionProvider"]
                )
            return sessions[name]

        self.glance, self.policy = load("glance.onnx"), load("policy.onnx")
        self.facts: dict[str, Any] = json.loads(self.glance.get_modelmeta().custom_metadata_map["gfnet"])
        self.focus = [load(name) for name in self.facts["focus_graphs"]]
        self.thresholds = [float(text) for text in self.facts["thresholds"]] + [-np.inf]
        self._policy_inputs = {node.name for node in self.policy.get_inputs()}

    def predict(self, image: np.ndarray) -> dict[str, Any]:
        """Recognises one image.

        Args:
            image: (H, W, 3) uint8, RGB, of the size that the graphs were exported for.

        Returns:
            `label`, `class`, `confidence`, `steps`, `locations` ((row, col) in [0, 1] each) and `multiply_adds`.

        Raises:
            ValueError: if the image is of another size or type.
        """
        height, width = self.facts["image_size"]
        if image.shape != (height, width, 3) or image.dtype != np.uint8:
            raise ValueError(f"image is {image.shape} {image.dtype}; pass ({height}, {width}, 3) uint8")
        pixels, side = image.transpose(2, 0, 1)[None], self.facts["patch_size"]
        features, hidden, logits = self.glance.run(None, {"images": np.ascontiguousarray(pixels)})
        state = np.zeros(self.facts["state_shape"], np.float32)
        glance, locations = features, np.zeros((1, len(self.thresholds) - 1, 2), np.float32)
        for step, threshold in enumerate(self.thresholds, start=1):
            log_p = logits[0] - logits[0].max()
            log_p = log_p - np.log(np.exp(log_p).sum())
            p = np.exp(log_p)
            score = p.max() if self.facts["criterion"] == "confidence" else (p * log_p).sum()
            if float(score) > threshold:
                break
            progress = np.eye(len(self.thresholds), dtype=np.float32)[[step - 1]]
            inputs = {"features": features, "hidden": hidden, "state": state}
            inputs |= {"locations": locations, "progress": progress, "glance": glance}
            location, *rest = self.policy.run(None, {name: inputs[name] for name in self._policy_inputs})
            state = rest[0] if rest else state
            room = np.array([height - side, width - side], np.float32)
            top, left = np.clip(np.floor(location[0] * room), 0, room).astype(int)
            patch = np.ascontiguousarray(pixels[:, :, top : top + side, left : left + side])
            features, hidden, logits = self.focus[step - 1].run(None, {"patches": patch, "hidden": hidden})
            locations[0, step - 1] = location[0]
        label = int(p.argmax())
        names = self.facts["class_names"]
        return {
            "label": label,
            "class": names[label] if names else str(label),
            "confidence": float(p.max()),
            "steps": step,
            "locations": locations[0, : step - 1].tolist(),
            "multiply_adds": self.facts["multiply_adds"][step - 1],
        }

    def open(self, path: Path | str) -> np.ndarray:
        """An image file, scaled to cover the graphs' size and cropped.

        Raises:
            UnreadableImageError: if it can't be decoded.
        """
        height, width = self.facts["image_size"]
        return decode_image(path, (height, width), self.facts["crop_pct"], self.facts["interpolation"])


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python onnx_runner.py IMAGE...")
    recognizer = OnnxRecognizer(Path(__file__).parent)
    try:
        for name in sys.argv[1:]:
            print(json.dumps({"file": name, **recognizer.predict(recognizer.open(name))}, allow_nan=False))
    except UnreadableImageError as error:
        sys.exit(str(error))
