"""GFNet's networks: encoders, heads, the glance-and-focus classifier, and how they are trained."""

from classifiers.checkpoints import CheckpointError, load_classifier, save_classifier
from classifiers.encoders import ENCODERS, Encoder, build_encoder
from classifiers.frozen import FrozenClassifier, frozen
from classifiers.glance_focus import ClassifierSpec, FullResolutionNetwork, GlanceFocusClassifier, Glimpse, Locator
from classifiers.heads import HEADS
from classifiers.losses import sequence_loss
from classifiers.multiply_adds import glimpse_costs
from classifiers.training import FitSpec, NotANumberError, train_full_resolution, train_sequences

__all__ = [
    "ENCODERS",
    "HEADS",
    "CheckpointError",
    "ClassifierSpec",
    "Encoder",
    "FitSpec",
    "FrozenClassifier",
    "FullResolutionNetwork",
    "GlanceFocusClassifier",
    "Glimpse",
    "Locator",
    "NotANumberError",
    "build_encoder",
    "frozen",
    "glimpse_costs",
    "load_classifier",
    "save_classifier",
    "sequence_loss",
    "train_full_resolution",
    "train_sequences",
]
