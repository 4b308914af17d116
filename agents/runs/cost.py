"""What a run's networks cost, counted on networks that were never trained."""

from __future__ import annotations

from dataclasses import dataclass

from agents.runs.config import RunConfig
from agents.runs.loaded import run_policy
from classifiers.data.source import nameless_classes
from classifiers.inference.frozen import frozen
from classifiers.networks.costs import encoder_cost, glimpse_costs
from classifiers.networks.glance_focus import GlanceFocusClassifier


@dataclass(frozen=True)
class RunCost:
    """Multiply-adds for one image.

    Attributes:
        encoder: f_L on one patch, without its own classifier.
        glance_encoder: f_G on the glance, likewise; the same unless the glance has a size of its own.
        encoder_classifier: the encoder's own classifier.
        head: what each of the T steps costs beyond the encoder: f_C, or at a cascade's glance the encoder's classifier.
        policy: one decision of pi.
        per_step: the T steps; from the second on with the decision that led there.
        cumulative: the first 1 to T steps together.
        full_resolution: the encoder and its classifier on the whole image.
    """

    encoder: int
    glance_encoder: int
    encoder_classifier: int
    head: tuple[int, ...]
    policy: int
    per_step: tuple[int, ...]
    cumulative: tuple[int, ...]
    full_resolution: int


def run_cost(config: RunConfig, num_classes: int) -> RunCost:
    """Counts what a run's networks cost.

    Args:
        config: the run.
        num_classes: number K of classes.

    Returns:
        Its multiply-adds.
    """
    classifier = GlanceFocusClassifier(config.classifier, num_classes)
    policy = run_policy(config, frozen(classifier), nameless_classes(num_classes), None).multiply_adds
    glance_side, side = classifier.spec.glance_side, classifier.spec.patch_size
    glance_encoder = encoder_cost(classifier.global_encoder, (glance_side, glance_side), with_classifier=False)
    encoder = encoder_cost(classifier.local_encoder, (side, side), with_classifier=False)
    own = encoder_cost(classifier.local_encoder, (side, side), with_classifier=True) - encoder
    looks = glimpse_costs(classifier)
    per_step = (looks[0], *(look + policy for look in looks[1:]))
    return RunCost(
        encoder=encoder,
        glance_encoder=glance_encoder,
        encoder_classifier=own,
        head=(looks[0] - glance_encoder, *(look - encoder for look in looks[1:])),
        policy=policy,
        per_step=per_step,
        cumulative=tuple(sum(per_step[: t + 1]) for t in range(len(per_step))),
        full_resolution=encoder_cost(classifier.local_encoder, config.data.image_size, with_classifier=True),
    )
