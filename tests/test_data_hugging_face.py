"""Image sets of Hugging Face's `datasets`, built in memory."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from conftest import random_classifier
from PIL import Image

from classifiers.data.map_style import DatasetImages
from classifiers.networks.spec import ClassifierSpec

datasets = pytest.importorskip("datasets")


def _set(label: Any = None, **columns: Any) -> Any:
    pictures = [Image.new("RGB", (40, 40), (60 * index, 0, 0)) for index in range(4)]
    features = {"picture": datasets.Image(), "kind": label or datasets.ClassLabel(names=["cat", "dog"])}
    content = {"picture": pictures, "kind": [0, 1, 1, 0], **{name: values for name, (values, _) in columns.items()}}
    features |= {name: feature for name, (_, feature) in columns.items()}
    return datasets.Dataset.from_dict(content, features=datasets.Features(features))


def test_columns_are_found_by_their_types() -> None:
    source = DatasetImages(_set(number=([1, 2, 3, 4], datasets.Value("int64"))), (40, 40), is_deterministic=True)

    batch = source.fetch(torch.arange(4))

    assert source.class_names == ("cat", "dog") and batch.labels.tolist() == [0, 1, 1, 0]
    assert np.array_equal(batch.images[:, 0, 5, 5], [0, 60, 120, 180])


def test_environments_take_them_as_they_are() -> None:
    classifier = random_classifier(ClassifierSpec(encoder="small_resnet", patch_size=32, hidden_size=16), 2)

    env = gymnasium.make("GFNet-ImageFolder-v0", dataset=_set(), image_size=40, classifier=classifier)

    assert env.reset(seed=0, options={"index": 1})[1]["label"] == 1


def test_sets_without_the_columns_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"has 0 columns of type ClassLabel \(picture: Image, kind: Value\); pass one, c"
    ):
        DatasetImages(_set(datasets.Value("int64")), (40, 40))
    with pytest.raises(ValueError, match=r"has 2 columns of type ClassLabel .*; pass one, select_columns chooses one"):
        DatasetImages(_set(other=([0] * 4, datasets.ClassLabel(names=["a"]))), (40, 40))
    with pytest.raises(ValueError, match=r"holds the splits train, test; pass one of them: dataset=DATASET\['train'\]"):
        DatasetImages(datasets.DatasetDict({"train": _set(), "test": _set()}), (40, 40))
    with pytest.raises(ValueError, match="is a stream, which has no index; load it with streaming=False"):
        DatasetImages(_set().to_iterable_dataset(), (40, 40))
