"""Whether stage II compiles the classifier that it looks through."""

from __future__ import annotations

from agents.runs.config import Stage2Spec
from classifiers.inference.compiled import has_compiler
from classifiers.networks.costs import encoder_cost
from classifiers.networks.glance_focus import GlanceFocusClassifier

_LEAST_MULTIPLY_ADDS = 3e12


def compiles_stage2(spec: Stage2Spec, classifier: GlanceFocusClassifier) -> bool:
    """Decides whether stage II's classifier is compiled, where the config leaves it open.

    Compiling takes 20 to 60 s once. Compiled encoders save a core, which computes 5 to 20 billion multiply-adds a
    second, a fifth to a half of its time; so compiling pays from some 3 * 10^12 multiply-adds on. What counts is the
    number of steps, times the patches encoded for each (one, and one for every random crop of the contrastive reward),
    times the encoder's multiply-adds for a patch. On accelerators, where it was not measured, nothing is compiled
    unless `spec.compile` says so.

    Args:
        spec: of stage II.
        classifier: its networks.

    Returns:
        `spec.compile` where it is given, else whether compiling pays and there is a C++ compiler to do it with.
    """
    if spec.compile is not None:
        return spec.compile
    if classifier.device.type != "cpu":
        return False
    return stage2_multiply_adds(spec, classifier) >= _LEAST_MULTIPLY_ADDS and has_compiler()


def stage2_multiply_adds(spec: Stage2Spec, classifier: GlanceFocusClassifier) -> int:
    """Multiply-adds of the patches that stage II encodes, those of the reward's random crops included."""
    encoder, sides = classifier.local_encoder, classifier.spec.patch_sizes
    each = sum(encoder_cost(encoder, (side, side), with_classifier=False) for side in sides) // len(sides)
    patches = 1 + (spec.episode.reward_samples if spec.episode.reward == "contrastive" else 0)
    return spec.env_steps * patches * each
