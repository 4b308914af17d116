"""Whether the embedded task of clips needs time: networks that see one frame, or all without their order.

Both are trained as the config's full-resolution network is, on the same clips, with its encoder but without temporal
shift; the second one's logits are averaged over the frames. Chance is 1 in 8.

python benchmarks/gestures.py ["one frame"] ["no shift"] [--seeds S...] [--set KEY=VALUE...]
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence

import torch

from agents.evaluation.rollout import full_resolution_accuracy
from agents.runs.config import RunConfig
from agents.runs.config_files import load_config
from agents.runs.images import open_images
from classifiers.data.source import Batch, ImageSource, SourceView
from classifiers.networks.encoders import Encoder, build_encoder
from classifiers.networks.full_resolution import FullResolutionNetwork
from classifiers.training.stages import train_full_resolution

KINDS = ("one frame", "no shift")


class OneFrame(SourceView[ImageSource]):
    """The middle frame of every clip, as images."""

    @property
    def num_frames(self) -> None:
        """See `ImageSource.num_frames`."""
        return None

    def for_epoch(self, epoch: int) -> OneFrame:
        """See `ImageSource.for_epoch`."""
        return OneFrame(self.source.for_epoch(epoch))

    def fetch(self, indices: torch.Tensor) -> Batch:
        """See `ImageSource.fetch`."""
        batch = self.source.fetch(indices)
        return batch._replace(images=batch.images[:, batch.images.shape[1] // 2])


def without_shift(name: str, num_classes: int, num_frames: int) -> Encoder:
    """An encoder of clips that sees its frames one by one; its logits are their mean."""
    encoder = build_encoder(name, num_classes)
    return Encoder(encoder.trunk, encoder.pool, encoder.classifier, encoder.preprocessing, num_frames)


def accuracies(config: RunConfig, kinds: Sequence[str]) -> dict[str, float]:
    """Accuracy on the test split of the network on one frame and of that without shift, by name."""
    name = config.classifier.encoder.partition(":")[2]
    splits = {split: open_images(config, split) for split in ("train", "test")}
    num_classes, num_frames = len(splits["train"].class_names), config.classifier.num_frames
    assert config.initialization is not None and num_frames is not None
    found = {}
    for kind in kinds:
        torch.manual_seed(config.seed)
        is_one = kind == "one frame"
        encoder = build_encoder(name, num_classes) if is_one else without_shift(name, num_classes, num_frames)
        train, test = (OneFrame(source) if is_one else source for source in splits.values())
        network = FullResolutionNetwork(encoder).to(memory_format=torch.channels_last)
        train_full_resolution(network, train, config.initialization.full_resolution, seed=config.seed)
        found[kind] = full_resolution_accuracy(network, test)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", choices=KINDS, default=list(KINDS), metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument(
        "--set", action="extend", nargs="+", default=[], metavar="KEY=VALUE", help="changes to the config"
    )
    options = parser.parse_args()
    configs = [load_config("synthetic_gestures", [*options.set, f"seed={seed}"]) for seed in options.seeds]
    rows = [accuracies(config, options.kinds) for config in configs]
    for kind in rows[0]:
        each = [row[kind] for row in rows]
        print(f"{kind}: {statistics.fmean(each):.3f} ({', '.join(f'{value:.3f}' for value in each)})", flush=True)


if __name__ == "__main__":
    main()
