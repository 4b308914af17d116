"""A foveated sensor beside a plain patch of equal multiply-adds, on the built-in task.

    python benchmarks/patch_scales.py [--scenes 2000] [--epochs 6] [--seeds 3]

For each sensor and seed, stage I trains the networks with random places: f_L starts from the full-resolution network,
f_G from the pretrained one, the head anew. Prints a Markdown table: accuracy after each glimpse, mean and standard
deviation over the seeds, at random places and at those of the reference, which knows where the signs are.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch

from agents.evaluation.metrics import accuracy_by_step
from agents.evaluation.rollout import evaluate
from agents.policies.baselines import RandomPolicy, ReferencePolicy
from agents.policies.protocol import LocationPolicy
from agents.runs.config_files import load_config
from classifiers.checkpoints import load_classifier, load_full_resolution
from classifiers.data.drawings import load_scenes
from classifiers.data.source import ArrayImages
from classifiers.data.synthetic_signs.scenes import SceneSpec
from classifiers.inference.frozen import frozen
from classifiers.networks.costs import glimpse_costs
from classifiers.networks.glance_focus import GlanceFocusClassifier
from classifiers.training.fit_spec import FitSpec
from classifiers.training.stages import train_sequences
from gfnet_env.tasks import PRETRAINED_RUN, run_weights

SENSORS: dict[str, dict[str, object]] = {
    "48 pixels": {"patch_size": 48},
    "40 pixels": {"patch_size": 40},
    "24 pixels, scales 1, 2, 4": {"patch_size": 24, "patch_scales": (1, 2, 4)},
    "32 pixels, scales 1, 2": {"patch_size": 32, "patch_scales": (1, 2)},
    "24 pixels": {"patch_size": 24},
}
"""Plain patches that cost more and less than the scales, the scales, and the innermost crop alone."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=2000, help="of the training")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    stage1 = load_config("synthetic_signs").stage1
    assert stage1 is not None
    fit = stage1.replace(epochs=options.epochs)
    train, test = load_scenes(SceneSpec(), "train", options.scenes), load_scenes(SceneSpec(), "test", 1000)
    print("| sensor | multiply-adds of a look | places | t=1 | t=2 | t=3 | t=4 |")
    print("|---|---|---|---|---|---|---|")
    for name, sizes in SENSORS.items():
        found: dict[str, list[list[float]]] = {"random": [], "reference": []}
        for seed in range(options.seeds):
            classifier = trained(sizes, train, fit, seed)
            fast, sides = frozen(classifier), classifier.spec.patch_sizes
            policies: dict[str, LocationPolicy] = {
                "random": RandomPolicy(0),
                "reference": ReferencePolicy(test.image_size, sides),
            }
            for place, policy in policies.items():
                found[place].append(accuracy_by_step(evaluate(fast, test, policy)))
        for place, runs in found.items():
            means, spreads = np.mean(runs, axis=0), np.std(runs, axis=0, ddof=min(1, len(runs) - 1))
            cells = " | ".join(f"{mean:.3f} ± {spread:.3f}" for mean, spread in zip(means, spreads, strict=True))
            print(f"| {name} | {glimpse_costs(classifier)[1] / 1e6:.2f} M | {place} | {cells} |", flush=True)


def trained(sizes: dict[str, object], train: ArrayImages, fit: FitSpec, seed: int) -> GlanceFocusClassifier:
    """The networks of a sensor after stage I."""
    pretrained, names = load_classifier(run_weights(PRETRAINED_RUN))
    torch.manual_seed(seed)
    spec = pretrained.spec.replace(
        patch_sizes=None, glance_size=pretrained.spec.glance_side, **{"patch_size": 48, **sizes}
    )
    classifier = GlanceFocusClassifier(spec, len(names))
    classifier.global_encoder.load_state_dict(pretrained.global_encoder.state_dict())
    whole = load_full_resolution(PRETRAINED_RUN / "initialization" / "full_resolution.safetensors")
    classifier.local_encoder.load_state_dict(whole.encoder.state_dict())
    for encoder in (classifier.global_encoder, classifier.local_encoder):
        encoder.use_preprocessing(whole.encoder.preprocessing)
    return train_sequences(classifier.train(), None, train, fit, seed=seed).eval()


if __name__ == "__main__":
    main()
