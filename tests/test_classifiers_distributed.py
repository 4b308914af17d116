"""Two processes train what one trains."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from classifiers.data.source import ArrayImages, Batch
from classifiers.networks.encoders import Encoder, build_encoder
from classifiers.networks.full_resolution import FullResolutionNetwork
from classifiers.networks.glance_focus import GlanceFocusClassifier
from classifiers.networks.spec import ClassifierSpec
from classifiers.training.fit_spec import FitSpec
from classifiers.training.loop import fit
from classifiers.training.stages import train_full_resolution, train_sequences

_SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
import torch
torch.set_num_threads(1)
from test_classifiers_distributed import train_both
from classifiers.training.distributed import is_first_process, process_group
with process_group():
    weights = train_both(Path({folder!r}))
    if is_first_process():
        torch.save(weights, {out!r})
"""


def train_both(folder: Path) -> dict[str, Tensor]:
    """A full-resolution network without batch normalization and a classifier with it, two epochs each."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (20, 3, 64, 64), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 3, (20,), generator=generator)
    source = ArrayImages(images, labels, torch.zeros(20, 4, dtype=torch.int64), ("a", "b", "c"))
    spec = FitSpec(epochs=2, batch_size=8, micro_batch_size=4, lr=0.01, shift_px=4, flip=True)
    network = FullResolutionNetwork(build_encoder("timm:convnext_atto", 3))
    train_full_resolution(network, source, spec, seed=0, checkpoint=folder / "network.pt")
    torch.manual_seed(0)  # training leaves torch's generator where its last part left it
    classifier = GlanceFocusClassifier(
        ClassifierSpec(encoder="small_resnet", patch_size=32, num_glimpses=3, hidden_size=8), 3
    )
    train_sequences(classifier, None, source, spec, seed=0)
    both = {"network": network, "classifier": classifier}
    return {f"{name}.{key}": value for name, module in both.items() for key, value in module.state_dict().items()}


def _torchrun(script: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs a script in two processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "GLOO_SOCKET_IFNAME": "lo"}
    return subprocess.run([*command, *words], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_two_processes_train_what_one_trains(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    alone = train_both(tmp_path / "one")
    script, out = tmp_path / "script.py", tmp_path / "weights.pt"
    script.write_text(
        _SCRIPT.format(tests=str(Path(__file__).parent), folder=str(tmp_path / "two"), out=str(out)), encoding="utf-8"
    )

    done = _torchrun(script)

    assert done.returncode == 0, done.stderr
    together = torch.load(out, weights_only=True)
    assert together.keys() == alone.keys()
    for name, value in alone.items():
        if "running_" not in name and "num_batches" not in name:  # gathered by each process on its own parts
            assert torch.allclose(together[name], value, atol=1e-5), name


_WAITING = """
import datetime, os, sys, time
from torch import distributed
from classifiers.training.distributed import is_first_process, mean_over_processes, wait_for_first
distributed.init_process_group("gloo", timeout=datetime.timedelta(seconds=2))
if is_first_process():
    time.sleep(6)
    if "fail" in sys.argv:
        sys.exit("no policy")
before = time.process_time()
wait_for_first("policy")
assert time.process_time() - before < 1
assert mean_over_processes(float(distributed.get_rank())) == 0.5
distributed.destroy_process_group()
"""


@pytest.mark.slow
@pytest.mark.parametrize("fails", [False, True])
def test_waiting_for_the_first_outlasts_the_timeout_but_not_its_failure(fails: bool, tmp_path: Path) -> None:
    """Six seconds of work under a timeout of two."""
    script = tmp_path / "script.py"
    script.write_text(_WAITING, encoding="utf-8")

    done = _torchrun(script, *(["fail"] if fails else []))

    assert (done.returncode != 0) == fails, done.stderr
    assert ("no policy" in done.stderr) == fails


def test_parts_add_up_to_the_whole_step() -> None:
    """Without normalization over the batch and without randomness, cutting a step in parts changes nothing."""
    torch.manual_seed(0)
    images = torch.randint(0, 256, (12, 3, 64, 64), dtype=torch.uint8)
    source = ArrayImages(images, torch.arange(12) % 3, torch.zeros(12, 4, dtype=torch.int64), ("a", "b", "c"))
    weights = []
    for micro_batch_size in (None, 4, 3):
        torch.manual_seed(0)
        trunk = nn.Sequential(nn.Conv2d(3, 8, 3, stride=4), nn.ReLU())
        pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        network = FullResolutionNetwork(Encoder(trunk, pool, nn.Linear(8, 3)))
        spec = FitSpec(epochs=1, batch_size=8, micro_batch_size=micro_batch_size, lr=0.1)
        train_full_resolution(network, source, spec, seed=0)
        weights.append(torch.cat([parameter.detach().flatten() for parameter in network.parameters()]))

    assert torch.allclose(weights[1], weights[0], atol=1e-6)
    assert torch.allclose(weights[2], weights[0], atol=1e-6)


@pytest.mark.parametrize(("count", "sizes"), [(1, [1]), (5, [2, 2, 1]), (8, [1] * 8)])
def test_a_data_set_smaller_than_the_micro_batches_is_one_step_of_fewer(count: int, sizes: list[int]) -> None:
    seen: list[int] = []
    weight = torch.nn.Parameter(torch.tensor(0.0))
    model = torch.nn.ParameterList([weight])

    def loss_of(model: torch.nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:
        seen.append(len(batch.labels))
        return weight * batch.labels.float().mean()

    source = ArrayImages(
        torch.zeros(count, 3, 8, 8, dtype=torch.uint8), torch.arange(count), torch.zeros(count, 4), ("a", "b")
    )
    spec = FitSpec(epochs=1, batch_size=16, micro_batch_size=2, lr=1.0, optimizer="sgd", weight_decay=0.0)

    fit(model, [{"params": [weight], "lr": 1.0}], loss_of, source, spec, seed=0)

    assert seen == sizes
    assert weight.grad is not None
    assert weight.grad.item() == pytest.approx((count - 1) / 2)  # the mean label: every image counts alike


def test_steps_that_can_not_be_shared_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("classifiers.training.loop.process_count", lambda: 2)
    network = FullResolutionNetwork(build_encoder("small_resnet", 3))
    source = ArrayImages(
        torch.zeros(9, 3, 32, 32, dtype=torch.uint8), torch.zeros(9, dtype=torch.int64), torch.zeros(9, 4), ("a", "b")
    )

    with pytest.raises(ValueError, match="micro_batch_size"):
        train_full_resolution(network, source, FitSpec(epochs=1, batch_size=9, micro_batch_size=3), seed=0)
    one = ArrayImages(source.images[:1], source.labels[:1], source.boxes[:1], source.class_names)
    with pytest.raises(ValueError, match="1 images"):
        train_full_resolution(network, one, FitSpec(epochs=1, batch_size=8), seed=0)
