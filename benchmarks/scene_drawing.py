"""How long drawing a scene of the embedded task takes.

python benchmarks/scene_drawing.py
"""

from __future__ import annotations

import statistics
import time

from classifiers.data.synthetic_signs.scenes import SceneSpec, draw_scene


def main() -> None:
    for height, width in ((192, 256), (240, 320)):
        spec = SceneSpec(height=height, width=width)
        for index in range(300):  # fills the cache of rotated signs
            draw_scene(spec, "val", index)
        times = []
        for index in range(1000):
            started = time.perf_counter()
            draw_scene(spec, "train", index)
            times.append(1e3 * (time.perf_counter() - started))
        print(f"{height}x{width}: {statistics.mean(times):.2f} ms a scene (median {statistics.median(times):.2f})")


if __name__ == "__main__":
    main()
