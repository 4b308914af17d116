from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from records import make_record

from agents.evaluation.fixed_places import best_fixed_places
from agents.evaluation.metrics import accuracy_by_step, class_figures, confusion_matrix, coverage, pointing_game
from agents.evaluation.record import EvaluationRecord
from agents.evaluation.rollout import evaluate, full_resolution_accuracy
from agents.policies.baselines import (
    CenterCornerPolicy,
    FixedPlacesPolicy,
    OraclePolicy,
    RandomPolicy,
    grid_locations,
)
from classifiers.data.source import ArrayImages
from classifiers.inference.frozen import FrozenClassifier, frozen
from classifiers.networks.encoders import build_encoder
from classifiers.networks.full_resolution import FullResolutionNetwork
from classifiers.networks.glance_focus import GlanceFocusClassifier
from classifiers.networks.spec import ClassifierSpec
from gfnet_env import EpisodeSpec, GlanceFocusEnv, Task
from gfnet_env.actions import to_action

MakeClassifier = Callable[..., FrozenClassifier]


def _record(
    prediction: list[list[int]], location: list[list[tuple[float, float]]], box: list[tuple[int, ...]]
) -> EvaluationRecord:
    shape = np.array(prediction).shape
    fields = {
        "prediction": np.array(prediction),
        "location": np.array(location, np.float32),
        "boxes": np.array(box).reshape(len(box), -1, 4),
    }
    return make_record(np.full(shape, 0.5), **fields)


def test_accuracy_by_step() -> None:
    record = _record([[0, 1, 0], [1, 1, 0]], [[(0, 0)] * 2] * 2, [(0, 0, 0, 0)] * 2)

    assert accuracy_by_step(record) == [0.5, 0.0, 1.0]
    assert pointing_game(record) is None


def test_mistakes_are_counted_by_class() -> None:
    prediction, label = np.array([[0, 1], [1, 0], [0, 2], [2, 2], [0, 2]]), np.array([0, 0, 1, 1, 1])
    record = make_record(np.full((5, 2), 0.5), prediction=prediction, label=label)

    matrix = confusion_matrix(record, 4)  # after the second look
    found = class_figures(matrix, ["ant", "bee", "cat", "dog"])

    assert matrix.tolist() == [[1, 1, 0, 0], [0, 0, 3, 0], [0] * 4, [0] * 4]
    assert found["images"] == [2, 3, 0, 0] and found["accuracy"] == [0.5, 0.0, None, None]
    assert found["balanced_accuracy"] == 0.25
    assert [tuple(each.values()) for each in found["confusions"]] == [("bee", "cat", 3), ("ant", "bee", 1)]


def test_pointing_game_wants_the_boxes_center_inside() -> None:
    locations = [[(0.0, 0.0), (1.0, 1.0)], [(0.0, 0.0), (0.0, 0.0)], [(1.0, 1.0), (0.0, 0.0)], [(0.0, 0.0), (0.0, 0.0)]]
    boxes = [(12, 12, 20, 20), (0, 0, 10, 10), (8, 0, 14, 6), (0, 0, 0, 0)]

    found = pointing_game(_record([[0, 0, 0]] * 4, locations, boxes))

    assert found == pytest.approx(
        [1 / 3, 2 / 3]
    )  # the second at once, the first later, the third never; the last has none


def test_coverage_counts_each_box_of_an_image() -> None:
    locations = [[(0.0, 0.0), (1.0, 1.0)], [(1.0, 1.0), (1.0, 1.0)], [(0.0, 0.0), (0.0, 0.0)]]
    boxes = [[(0, 0, 6, 6), (14, 14, 18, 18)], [(0, 0, 6, 6), (0, 0, 0, 0)], [(0, 0, 0, 0)] * 2]
    record = dataclasses.replace(_record([[0, 0, 0]] * 3, locations, [(0, 0, 0, 0)] * 3), boxes=np.array(boxes))

    assert coverage(record) == pytest.approx([0.25, 0.5])  # the last image has no box
    assert pointing_game(record) == [0.5, 0.5]


def test_figures_of_several_sizes_are_the_averages_of_their_histories() -> None:
    locations = [[(1.0, 1.0), (0.0, 0.0), (0.0, 0.0), (0.0, 0.0), (0.0, 0.0), (1.0, 1.0)]]
    record = _record([[0, 1, 0, 1, 1, 1, 0]], locations, [(14, 14, 18, 18)])
    record = dataclasses.replace(record, patch_sizes=(8, 16))

    assert accuracy_by_step(record) == [1.0, 0.5, 0.25]
    assert pointing_game(record) == [0.5, 0.75]  # (0,) and all after it, and (1, 1) contain the pixel (16, 16)


def test_evaluation_is_the_environments_own_rollout(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    record = evaluate(classifier, scenes, RandomPolicy(4), batch_size=7)
    env = GlanceFocusEnv(Task(scenes, classifier), EpisodeSpec())

    for index in (0, 8, 23):
        _, info = env.reset(options={"index": index})
        assert info["prediction"] == record.prediction[index, 0]
        for step in range(1, 4):
            action = to_action(torch.from_numpy(record.location[index, step - 1])[None])[0]
            *_, info = env.step(action)
            assert info["prediction"] == record.prediction[index, step]
            assert info["confidence"] == pytest.approx(record.confidence[index, step], abs=1e-4)
            assert info["label_probability"] == pytest.approx(record.label_probability[index, step], abs=1e-4)


def test_entropy_is_of_the_prediction(color_classifier: MakeClassifier, red_corner_images: ArrayImages) -> None:
    record = evaluate(color_classifier(), red_corner_images, CenterCornerPolicy())

    p = record.confidence.astype(np.float64)
    assert np.allclose(record.entropy, -(p * np.log(p) + (1 - p) * np.log(1 - p)), atol=1e-5)


def test_random_policy_is_reproducible(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    one, two, other = (evaluate(classifier, scenes, RandomPolicy(seed)) for seed in (1, 1, 2))

    assert np.array_equal(one.location, two.location)
    assert not np.array_equal(one.location, other.location)


def test_center_corner_policy_visits_them_in_order(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    record = evaluate(classifier.with_spec(num_glimpses=7), scenes, CenterCornerPolicy())

    expected = [(0.5, 0.5), (0, 0), (0, 1), (1, 0), (1, 1), (0.5, 0.5)]
    assert np.allclose(record.location, np.array(expected)[None])


def test_oracle_takes_the_best_place_of_its_grid(
    color_classifier: MakeClassifier, red_corner_images: ArrayImages
) -> None:
    record = evaluate(color_classifier(), red_corner_images, OraclePolicy(color_classifier(), grid=5))

    assert (record.location[:, 0] == 1.0).all()  # the red corner
    assert pointing_game(record) == [1.0, 1.0]


def test_best_fixed_places_find_what_all_images_have_in_common(
    color_classifier: MakeClassifier, red_corner_images: ArrayImages
) -> None:
    policy = best_fixed_places(color_classifier(), red_corner_images, grid=3)

    assert policy.places[0].tolist() == [1.0, 1.0]  # the red corner
    assert len(policy.places) == color_classifier().spec.num_glimpses - 1
    with pytest.raises(ValueError, match="grid=1; pass 2 or more"):
        best_fixed_places(color_classifier(), red_corner_images, grid=1)


@pytest.mark.parametrize("head", ["gru", "cascade"])
def test_no_other_fixed_place_is_better_than_the_best(head: str, scenes: ArrayImages) -> None:
    torch.manual_seed(0)
    networks = frozen(
        GlanceFocusClassifier(ClassifierSpec(encoder="small_resnet", patch_size=32, num_glimpses=3, head=head), 10)
    )

    few = ArrayImages(scenes.images[:9], scenes.labels[:9], scenes.boxes[:9], scenes.class_names)

    best = best_fixed_places(networks, few, grid=3, batch_size=7).places

    merits = {}
    for step in (1, 2):
        for place in grid_locations(3):
            record = evaluate(networks, few, FixedPlacesPolicy(torch.stack([*best[: step - 1], place, *best])))
            right = (record.prediction[:, step] == record.label).sum()
            merits[tuple(place.tolist())] = (right, record.label_probability[:, step].mean())
        chosen = merits.pop(tuple(best[step - 1].tolist()))
        assert all(right <= chosen[0] for right, _ in merits.values())
        assert all(chance <= chosen[1] + 1e-5 for right, chance in merits.values() if right == chosen[0])


def test_full_resolution_accuracy_counts_right_predictions(scenes: ArrayImages) -> None:
    network = FullResolutionNetwork(build_encoder("small_resnet", 10)).eval()
    with torch.no_grad():
        predicted = network(scenes.images).argmax(1)
    half_right = torch.where(torch.arange(24) < 12, predicted, (predicted + 1) % 10)

    accuracy = full_resolution_accuracy(
        network, ArrayImages(scenes.images, half_right, scenes.boxes, scenes.class_names)
    )

    assert accuracy == 0.5
