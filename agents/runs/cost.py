"""What a run's networks cost, counted on networks that were never trained."""

from __future__ import annotations

from dataclasses import dataclass

from agents.evaluation.rollout import cumulative_multiply_adds
from agents.runs.config import RunConfig
from agents.runs.run import run_policy
from classifiers.data.source import default_class_names
from classifiers.inference.frozen import frozen
from classifiers.networks.costs import encoder_cost, glimpse_costs
from classifiers.networks.glance_focus import GlanceFocusClassifier
from classifiers.networks.size_histories import size_histories


@dataclass(frozen=True)
class RunCost:
    """Multiply-adds for one image.

    Attributes:
        encoder: f_L on one patch with all its scales, without its own classifier; of several patch sizes, the largest.
        encoders: f_L on one patch of each size, likewise.
        glance_encoder: f_G on the glance, without its classifier.
        encoder_classifier: the encoder's own classifier.
        patch_sizes: the K sides of patches, in pixels.
        head: what the last glimpse of each size history costs beyond the encoder: f_C, or at a cascade's glance the
            encoder's classifier. By node of `classifiers.networks.size_histories`; with one size, a node is a step.
        policy: one decision of pi.
        per_step: the last glimpse of each node; but for the glance with the decision that led there.
        cumulative: all glimpses of each node together.
        full_resolution: the encoder and its classifier on the whole image.
    """

    encoder: int
    encoders: tuple[int, ...]
    glance_encoder: int
    encoder_classifier: int
    patch_sizes: tuple[int, ...]
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
    policy = run_policy(config, frozen(classifier), default_class_names(num_classes), None).multiply_adds
    glance_side, sides = classifier.spec.glance_side, classifier.spec.patch_sizes
    glance_encoder = encoder_cost(classifier.global_encoder, (glance_side, glance_side), with_classifier=False)
    alone = [encoder_cost(classifier.local_encoder, (side, side), with_classifier=False) for side in sides]
    own = encoder_cost(classifier.local_encoder, (sides[-1],) * 2, with_classifier=True) - alone[-1]
    encoders = [cost * len(classifier.spec.scales) for cost in alone]
    glimpses = [glimpse_costs(classifier, size) for size in range(len(sides))]
    histories = size_histories(len(sides), classifier.spec.num_glimpses)[1:]
    return RunCost(
        encoder=encoders[-1],
        encoders=tuple(encoders),
        glance_encoder=glance_encoder,
        encoder_classifier=own,
        patch_sizes=sides,
        head=(
            glimpses[0][0] - glance_encoder,
            *(glimpses[each[-1]][len(each)] - encoders[each[-1]] for each in histories),
        ),
        policy=policy,
        per_step=(glimpses[0][0], *(glimpses[each[-1]][len(each)] + policy for each in histories)),
        cumulative=tuple(cumulative_multiply_adds(classifier, policy)),
        full_resolution=encoder_cost(classifier.local_encoder, config.data.image_size, with_classifier=True),
    )
