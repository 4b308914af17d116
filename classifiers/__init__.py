"""GFNet's networks: encoders, heads, the glance-and-focus classifier, and how they are trained."""

from classifiers.checkpoints import load_classifier, save_classifier
from classifiers.inference.frozen import FrozenClassifier, frozen
from classifiers.networks.costs import glimpse_costs
from classifiers.networks.encoders import ENCODERS, Encoder, build_encoder
from classifiers.networks.full_resolution import FullResolutionNetwork
from classifiers.networks.glance_focus import GlanceFocusClassifier
from classifiers.networks.glimpse import Glimpse, Policy, Readout, View, summarize_logits
from classifiers.networks.heads import HEADS
from classifiers.networks.preprocessing import Preprocessing
from classifiers.networks.spec import ClassifierSpec
from classifiers.tensor_files import CheckpointError
from classifiers.training.fit_spec import FitSpec
from classifiers.training.loop import NonFiniteLossError
from classifiers.training.stages import sequence_loss, train_full_resolution, train_sequences

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
    "NonFiniteLossError",
    "Policy",
    "Preprocessing",
    "Readout",
    "View",
    "build_encoder",
    "frozen",
    "glimpse_costs",
    "load_classifier",
    "save_classifier",
    "sequence_loss",
    "summarize_logits",
    "train_full_resolution",
    "train_sequences",
]
