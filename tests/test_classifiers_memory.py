"""Micro-batches follow what fits into memory."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from classifiers.data.source import ArrayImages
from classifiers.devices import free_memory
from classifiers.networks.encoders import build_encoder
from classifiers.networks.full_resolution import FullResolutionNetwork
from classifiers.training import loop, memory
from classifiers.training.fit_spec import FitSpec
from classifiers.training.memory import fitting_parts, kept_bytes
from classifiers.training.stages import train_full_resolution


def _network() -> FullResolutionNetwork:
    torch.manual_seed(0)
    return FullResolutionNetwork(build_encoder("small_resnet", 10))


def test_what_the_backward_pass_needs_is_counted() -> None:
    model, images = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Flatten()), torch.rand(2, 3, 5, 6)

    found = kept_bytes(model, lambda: model(images).sum())

    assert found == 2 * (3 + 4) * 5 * 6 * 4  # what the convolution read and what ReLU put out, not the weights


def test_free_memory_is_no_more_than_what_tensors_leave() -> None:
    before = free_memory(torch.device("cpu"))
    if before is None:
        pytest.skip("this system does not say")
    used = torch.ones(64 << 20)  # 256 MiB
    after = free_memory(torch.device("cpu"))

    assert after is not None and 0 < after < before + (64 << 20)
    assert used.sum() > 0


@pytest.mark.parametrize(("free_images", "parts"), [(40, 1), (10, 2), (3, 8), (0.1, 16)])
def test_a_step_is_divided_until_it_fits(free_images: float, parts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    network, image = _network(), torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    one = 1.5 * kept_bytes(network, lambda: network(image).sum())
    fixed = 16 * sum(parameter.numel() for parameter in network.parameters())
    monkeypatch.setattr(memory, "free_memory", lambda device: int(fixed + free_images * one))
    monkeypatch.setattr(memory, "_MOST_BYTES_PER_PIXEL", 10**6)

    def found() -> int:
        return fitting_parts(network, lambda: network(image).sum(), images=16, pixels=64 * 64, processes=1)

    if parts == 1:
        assert found() == 1
    else:
        with pytest.warns(UserWarning, match=f"16 images .* in {parts} micro-batches"):
            assert found() == parts


def test_a_training_that_did_not_fit_resumes_with_the_same_micro_batches(
    scenes: ArrayImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = FitSpec(epochs=2, batch_size=12)

    def train(parts: int, checkpoint: Path | None = None, stop_after: int = 99) -> Tensor:
        def stop(done: int, total: int, figures: dict[str, float]) -> None:
            if done > stop_after:
                raise KeyboardInterrupt

        monkeypatch.setattr(loop, "fitting_parts", lambda *arguments: parts)
        network = _network()
        train_full_resolution(network, scenes, spec, seed=0, checkpoint=checkpoint, on_progress=stop)
        return torch.cat([value.flatten() for value in network.state_dict().values()])

    with pytest.raises(KeyboardInterrupt):
        train(4, tmp_path / "cut.pt", stop_after=2)

    in_parts = train(4)
    assert torch.equal(train(1, tmp_path / "cut.pt"), in_parts)
    assert not torch.equal(train(1), in_parts), "normalized over other images"
