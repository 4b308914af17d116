"""Checkpoints that the authors of papers published, in our networks.

`gfnet` reads the 14 files of the first GFNet paper, `tsm` those of the Temporal Shift Module; neither runs code that a
file may carry.
"""

from classifiers.published.gfnet import (
    PUBLISHED,
    STATE_DICTS,
    PublishedCheckpoint,
    PublishedModel,
    load_encoder,
    read_published,
)
from classifiers.published.tsm import load_tsm

__all__ = [
    "PUBLISHED",
    "STATE_DICTS",
    "PublishedCheckpoint",
    "PublishedModel",
    "load_encoder",
    "load_tsm",
    "read_published",
]
