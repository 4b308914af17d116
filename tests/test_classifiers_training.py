from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from classifiers.data.source import ArrayImages, Batch
from classifiers.networks.encoders import build_encoder
from classifiers.networks.full_resolution import FullResolutionNetwork
from classifiers.networks.glance_focus import GlanceFocusClassifier, SequenceLogits
from classifiers.networks.glimpse import View
from classifiers.networks.spec import ClassifierSpec
from classifiers.training.augmentation import augment
from classifiers.training.fit_spec import PARTS, FitSpec
from classifiers.training.loop import NonFiniteLossError, fit
from classifiers.training.stages import balanced_class_weights, sequence_loss, train_sequences

SHAPE = ClassifierSpec(encoder="small_resnet", patch_size=48, num_glimpses=3, hidden_size=8)


def _new_classifier() -> GlanceFocusClassifier:
    torch.manual_seed(0)
    return GlanceFocusClassifier(SHAPE, 10)


def test_sequence_loss_is_equation_6() -> None:
    logits = torch.tensor([[[0.0, 0.0]], [[2.0, 0.0]]])  # (T=2, B=1, K=2)
    encoder_logits = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])
    labels = torch.tensor([0])

    def cross_entropy(right: float, wrong: float) -> float:
        return math.log(1.0 + math.exp(wrong - right))

    plain = 0.5 * (cross_entropy(0, 0) + cross_entropy(2, 0))
    linear = 0.5 * (cross_entropy(1, 0) + cross_entropy(0, 1))
    predictions = SequenceLogits(logits, encoder_logits)
    assert sequence_loss(predictions, labels, 0.0).item() == pytest.approx(plain)
    assert sequence_loss(predictions, labels, 5.0).item() == pytest.approx(plain + 5.0 * linear)


def test_balanced_weights_make_the_loss_the_mean_over_classes() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, encoder_logits = torch.randn(2, 3, 6, 4, generator=generator)  # T=3, B=6, K=4
    labels = torch.tensor([0, 0, 0, 0, 1, 3])
    weights = balanced_class_weights(labels, 4)

    def loss(kept: Tensor, class_weights: Tensor | None = None) -> Tensor:
        predictions = SequenceLogits(logits[:, kept], encoder_logits[:, kept])
        return sequence_loss(predictions, labels[kept], 0.5, None, class_weights)

    by_class = torch.stack([loss(labels == label) for label in (0, 1, 3)])
    assert loss(labels >= 0, weights).item() == pytest.approx(by_class.mean().item())
    assert weights[labels].mean().item() == pytest.approx(1.0) and weights[2] == 0


def test_episode_starts_with_the_glance_and_follows_the_locator() -> None:
    classifier = _new_classifier().eval()
    images = torch.randint(0, 256, (2, 3, 96, 128), dtype=torch.uint8)
    calls: list[Any] = []

    def locate(view: View, state: Any) -> tuple[Tensor, Any]:
        calls.append(state)
        return torch.zeros(2, 2), len(calls)

    with torch.no_grad():
        predictions = classifier(images, locate)
        glance = classifier.glance(images)
        focus = classifier.focus(images[:, :, :48, :48], glance.hidden)

    assert calls == [None, 1]
    assert predictions.logits.shape == predictions.encoder_logits.shape == (3, 2, 10)
    assert torch.allclose(predictions.logits[0], glance.logits)
    assert torch.allclose(predictions.logits[1], focus.logits)


def _few_images(scenes: ArrayImages) -> ArrayImages:
    return ArrayImages(scenes.images[:8], scenes.labels[:8], scenes.boxes[:8], scenes.class_names)


def test_stage_one_learns(scenes: ArrayImages) -> None:
    losses: list[float] = []
    spec = FitSpec(epochs=15, batch_size=8, optimizer="adamw", lr=2e-3)

    train_sequences(
        _new_classifier(), None, _few_images(scenes), spec, seed=0, on_progress=lambda d, t, f: losses.append(f["loss"])
    )

    assert sum(losses[-3:]) < 0.7 * sum(losses[:3])


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_cut_off_training_ends_with_the_same_weights(scenes: ArrayImages, tmp_path: Path, optimizer: str) -> None:
    spec = FitSpec(epochs=3, batch_size=10, optimizer=optimizer, lr=1e-3, shift_px=4, flip=True)
    undisturbed = train_sequences(_new_classifier(), None, scenes, spec, seed=1)

    class Killed(Exception):
        pass

    def kill_in_second_epoch(done: int, total: int, figures: dict[str, float]) -> None:
        if done == 5:
            raise Killed

    checkpoint = tmp_path / "training.pt"
    with pytest.raises(Killed):
        train_sequences(
            _new_classifier(), None, scenes, spec, seed=1, checkpoint=checkpoint, on_progress=kill_in_second_epoch
        )
    torch.manual_seed(99)
    resumed = train_sequences(GlanceFocusClassifier(SHAPE, 10), None, scenes, spec, seed=1, checkpoint=checkpoint)

    for name, value in undisturbed.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_nan_stops_and_keeps_the_last_good_epoch(scenes: ArrayImages, tmp_path: Path) -> None:
    network = FullResolutionNetwork(build_encoder("small_resnet", 10))
    checkpoint = tmp_path / "training.pt"
    groups = [{"params": list(network.parameters()), "lr": 1e-3}]
    calls = 0

    def loss_of(_: torch.nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:
        nonlocal calls
        calls += 1
        return network(batch.images).square().mean() * (math.nan if calls > 3 else 1.0)

    with pytest.raises(NonFiniteLossError, match="nan in epoch 2, step 2"):
        fit(
            network,
            groups,
            loss_of,
            scenes,
            FitSpec(epochs=3, batch_size=12, micro_batch_size=12),
            seed=0,
            checkpoint=checkpoint,
        )

    state = torch.load(checkpoint, weights_only=True)
    assert state["epoch"] == 1
    assert all(torch.isfinite(value).all() for value in state["model"].values())


def test_batch_statistics_can_be_left_as_they_are(scenes: ArrayImages) -> None:
    classifier = _new_classifier()
    before = {name: value.clone() for name, value in classifier.state_dict().items()}

    spec = FitSpec(epochs=1, batch_size=12, lr=0.01, freeze_statistics=True)
    train_sequences(classifier, None, scenes, spec, seed=0)

    after = classifier.state_dict()
    statistics = [name for name in after if "running" in name]
    assert len(statistics) > 10
    assert all(torch.equal(after[name], before[name]) for name in statistics)
    assert not torch.equal(after["local_encoder.classifier.weight"], before["local_encoder.classifier.weight"])


def test_stage_three_looks_where_the_policy_says(scenes: ArrayImages) -> None:
    places: list[Tensor] = []

    def locate(view: View, state: None) -> tuple[Tensor, None]:
        places.append(torch.full((len(view.step), 2), 0.25))
        return places[-1], None

    train_sequences(
        _new_classifier(), locate, scenes, FitSpec(epochs=1, batch_size=12, micro_batch_size=12, lr=0.01), seed=0
    )

    assert len(places) == 2 * 2  # two batches, two focus steps


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("epochs", -1), ("batch_size", 0), ("lr", -0.1), ("lr", math.nan), ("optimizer", "adam"), ("warmup", 1.0)),
        *(("shift_px", -1), ("zoom", 0.5), ("rotation", 200.0), ("color_jitter", 1.0)),
    ],
)
def test_bad_settings_are_refused(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        FitSpec(**{"epochs": 1, name: value})


@pytest.mark.slow
def test_mixed_precision_and_workers_learn_the_same_task(scenes: ArrayImages) -> None:
    losses: dict[str, list[float]] = {"float32": [], "bfloat16": []}
    for precision, curve in losses.items():
        spec = FitSpec(
            epochs=1,
            batch_size=4,
            optimizer="adamw",
            lr=1e-3,
            precision=precision,
            num_workers=int(precision == "bfloat16"),
        )
        torch.manual_seed(0)
        classifier = _new_classifier()
        train_sequences(
            classifier,
            None,
            _few_images(scenes),
            spec,
            seed=0,
            on_epoch=lambda epoch, figures, curve=curve: curve.append(figures["loss"]),  # type: ignore[misc]  # binds the loop variable
        )
        assert all(parameter.dtype == torch.float32 for parameter in classifier.parameters())

    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.03)
    assert losses["bfloat16"] != losses["float32"]


def test_shifts_larger_than_the_image_are_an_error(scenes: ArrayImages) -> None:
    with pytest.raises(ValueError, match="shift_px=96"):
        augment(scenes.images[:2], torch.Generator(), shift_px=96)


@pytest.mark.parametrize(
    ("settings", "frozen"),
    [
        ({"frozen": ("global_encoder", "local_encoder")}, ("global_encoder", "local_encoder")),
        ({"frozen": ("head",)}, ("head",)),
        ({"global_lr": 0.0}, ("global_encoder",)),
    ],
)
def test_frozen_parts_stay_with_their_statistics(
    settings: dict[str, Any], frozen: tuple[str, ...], scenes: ArrayImages
) -> None:
    classifier = _new_classifier()
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    modes: list[bool] = []
    classifier.local_encoder.register_forward_pre_hook(lambda module, _: modes.append(module.training))

    train_sequences(classifier, None, scenes, FitSpec(epochs=1, batch_size=12, lr=0.01, **settings), seed=0)

    after = classifier.state_dict()
    for part in PARTS:
        names = [name for name in after if name.startswith(f"{part}.")]
        assert len(names) > 4
        assert all(torch.equal(after[name], before[name]) for name in names) is (part in frozen), part
    assert set(modes) == {"local_encoder" not in frozen}
    assert all(parameter.requires_grad for parameter in classifier.parameters()) and not classifier.training


def test_early_layers_stay_with_their_statistics(scenes: ArrayImages) -> None:
    classifier = _new_classifier()
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    spec = FitSpec(epochs=1, batch_size=12, lr=0.01, frozen_stride=4)

    train_sequences(classifier, None, scenes, spec, seed=0)

    after = classifier.state_dict()
    for part in ("global_encoder", "local_encoder"):
        encoder = getattr(classifier, part)
        early = {id(value) for layer in encoder.early_layers(4) for value in layer.state_dict(keep_vars=True).values()}
        kept = {
            name: torch.equal(after[f"{part}.{name}"], before[f"{part}.{name}"])
            for name, value in encoder.state_dict(keep_vars=True).items()
            if value.is_floating_point() and id(value) in early
        }
        assert len(kept) > 4 and all(kept.values())
        assert not torch.equal(after[f"{part}.classifier.weight"], before[f"{part}.classifier.weight"])
        late = [name for name, value in encoder.trunk.named_parameters() if id(value) not in early]
        assert late and not any(torch.equal(after[f"{part}.trunk.{n}"], before[f"{part}.trunk.{n}"]) for n in late)
    assert all(parameter.requires_grad for parameter in classifier.parameters())
    with pytest.raises(ValueError, match="frozen_stride=32"):
        train_sequences(classifier, None, scenes, spec.replace(frozen_stride=32), seed=0)


def test_frozen_parts_make_no_difference_to_those_that_learn(scenes: ArrayImages) -> None:
    """f_C alone learns what it learns when the encoders' rates are 0 and their statistics stay."""
    by_list, by_rates = _new_classifier(), _new_classifier()

    spec = FitSpec(epochs=1, batch_size=12, lr=0.01, frozen=("global_encoder", "local_encoder"))
    train_sequences(by_list, None, scenes, spec, seed=0)
    spec = FitSpec(epochs=1, batch_size=12, lr=0.0, head_lr=0.01, freeze_statistics=True)
    train_sequences(by_rates, None, scenes, spec, seed=0)

    for one, other in zip(by_list.head.parameters(), by_rates.head.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_few_images_are_seen_more_often_until_there_are_enough_steps(scenes: ArrayImages, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []

    def note(done: int, total: int, figures: dict[str, float]) -> None:
        steps.append((done, total))
        if len(steps) == 10:  # in the third of four epochs
            raise KeyboardInterrupt

    def train(min_steps: int) -> None:
        spec = FitSpec(epochs=2, min_steps=min_steps, batch_size=2, lr=1e-3)
        loop: dict[str, Any] = {"seed": 0, "checkpoint": tmp_path / "state.pt", "on_progress": note}
        train_sequences(_new_classifier(), None, _few_images(scenes), spec, **loop)

    with pytest.raises(KeyboardInterrupt):
        train(13)
    train(13)
    assert [done for done, _ in steps[10:]] == list(range(9, 17)) and {total for _, total in steps} == {16}
    (tmp_path / "state.pt").unlink()
    train(7)
    assert steps[-1] == (8, 8)
    assert FitSpec(epochs=0, min_steps=9).num_epochs(1) == 0
