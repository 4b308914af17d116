from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from conftest import SMALL_SCENES
from PIL import Image
from test_agents_recognizer import SIZES, make_recognizer, spread_thresholds

from agents.recognition.onnx_export import export_full_resolution, export_onnx
from agents.runs.run import load_recognizer
from classifiers.data.source import ArrayImages
from classifiers.networks.encoders import build_encoder
from classifiers.networks.full_resolution import FullResolutionNetwork
from scripts.cli import main

onnxruntime = pytest.importorskip("onnxruntime")
SIZE = (SMALL_SCENES.height, SMALL_SCENES.width)


def _runner(folder: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(folder)  # as the program itself finds what lies beside it
    spec = importlib.util.spec_from_file_location("exported_runner", folder / "onnx_runner.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_first_look_at_a_random_place_is_not_exported(scenes: ArrayImages, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="first look"):
        export_onnx(make_recognizer(scenes, first_look="random")[0], tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("sizes", "head", "agent", "shape"),
    [
        ((48,), "gru", "ppo_gru", {"resize_mode": "bicubic"}),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                (SIZES, "cascade", "ppo", {"resize_mode": "area"}),
                ((48,), "average", "ppo", {"resize_mode": "bilinear", "glance_size": 64}),
                ((48,), "gru", "ppo", {"first_look": "center"}),
                ((48,), "gru", "dqn", {}),
                ((48,), "gru", "recurrent_ppo", {}),
                ((48,), "gru", "crossq", {}),
            )
        ),
    ],
)
def test_exported_graphs_do_what_the_recognizer_does(
    sizes: tuple[int, ...],
    head: str,
    agent: str,
    shape: dict[str, Any],
    scenes: ArrayImages,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recognizer, record = make_recognizer(scenes, head, agent, sizes=sizes, **shape)
    criterion = "entropy" if head == "average" else "confidence"
    recognizer.use(thresholds=spread_thresholds(record, criterion), criterion=criterion)

    written = {path.name for path in export_onnx(recognizer, tmp_path)}
    ours = _runner(tmp_path, monkeypatch).OnnxRecognizer(tmp_path)
    expected = recognizer.predict(scenes.images)

    steps = ("_2", "_3", "_4") if head == "cascade" else ("",)
    sides = [f"_{side}" for side in sizes] if len(sizes) > 1 else [""]
    focus = {f"focus{step}{side}.onnx" for step in steps for side in sides}
    assert written == {"glance.onnx", "policy.onnx", "onnx_runner.py", "decoding.py", *focus}
    assert len(set(expected.step.tolist())) >= 3
    for row, image in enumerate(scenes.images.permute(0, 2, 3, 1).numpy()):
        found, looks = ours.predict(image), int(expected.step[row]) - 1
        assert (found["label"], found["steps"]) == (expected.label[row], looks + 1)
        assert found["class"] == scenes.class_names[found["label"]]
        assert found["confidence"] == pytest.approx(expected.confidence[row], abs=1e-4)
        assert found["patch_sizes"] == expected.patch_sizes[row, :looks].tolist()
        assert np.allclose(np.array(found["locations"]).reshape(-1, 2), expected.locations[row, :looks], atol=1e-4)
        assert found["multiply_adds"] == expected.multiply_adds[row]
    with pytest.raises(ValueError, match=r"pass \(96, 128, 3\) uint8"):
        ours.predict(np.zeros((64, 64, 3), np.uint8))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "engine"),
    [("fp32", "openvino"), ("fp16", "openvino"), ("int8", "onnxruntime"), ("int8-calibrated", "openvino")],
)
def test_engines_and_precisions_differ_little(
    precision: Any, engine: str, scenes: ArrayImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recognizer, _ = make_recognizer(scenes)
    export_onnx(recognizer, tmp_path / "fp32")
    some = None
    if precision == "int8-calibrated":
        pytest.importorskip("nncf")
        some = scenes.images[:20].movedim(-3, -1).numpy()
    export_onnx(recognizer, tmp_path / "other", precision=precision, images=some)
    module = _runner(tmp_path / "fp32", monkeypatch)
    exact, other = module.OnnxRecognizer(tmp_path / "fp32"), module.OnnxRecognizer(tmp_path / "other", engine=engine)
    pixels = scenes.images[:1].numpy()

    expected, found = exact.glance(images=pixels)[2], other.glance(images=pixels)[2]
    label = other.predict(scenes.images[0].permute(1, 2, 0).numpy())["label"]

    sizes = [(tmp_path / name / "focus.onnx").stat().st_size for name in ("other", "fp32")]
    tolerance, share = {"fp32": (1e-4, 1.01), "fp16": (0.02, 0.6), "int8": (0.2, 0.4), "int8-calibrated": (0.2, 0.7)}[
        precision
    ]
    assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()
    assert sizes[0] <= share * sizes[1] and 0 <= label < len(scenes.class_names)


@pytest.mark.slow
def test_exported_policies_tell_the_glance_from_the_last_look(
    scenes: ArrayImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recognizer, _ = make_recognizer(scenes, rules={"observe": ("features", "glance", "pooled")})
    export_onnx(recognizer, str(tmp_path))

    found = _runner(tmp_path, monkeypatch).OnnxRecognizer(tmp_path).predict(scenes.images[0].permute(1, 2, 0).numpy())

    assert np.allclose(found["locations"], recognizer.predict(scenes.images[:1]).locations[0], atol=1e-4)


def test_exported_baseline_gives_its_logits(scenes: ArrayImages, tmp_path: Path) -> None:
    network = FullResolutionNetwork(build_encoder("small_resnet", 10)).eval()

    path = export_full_resolution(network, SIZE, tmp_path / "full.onnx")

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"images": scenes.images[:1].numpy()})
    with torch.no_grad():
        assert np.allclose(logits, network(scenes.images[:1]).numpy(), atol=1e-4)


@pytest.mark.slow
def test_export_command_and_its_program(
    tiny_run: Path, tmp_path: Path, scenes: ArrayImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    assert main(["export", str(run), "--num-glimpses", "2", "--quiet"]) == 0
    scene = scenes.images[0].permute(1, 2, 0).numpy()
    glassy = np.dstack([scene, np.tile(np.linspace(0, 255, scene.shape[1]).astype(np.uint8), (len(scene), 1))])
    kinds = {"opaque.png": scene, "transparent.png": glassy, "deep.png": scene[:, :, 0].astype(np.uint16) * 256}
    for name, pixels in kinds.items():
        Image.fromarray(pixels).save(tmp_path / name)
    turned = Image.fromarray(scene).getexif()
    turned[0x0112] = 6
    Image.fromarray(scene).resize((1024, 768)).save(tmp_path / "turned.jpg", exif=turned)
    pictures = [tmp_path / name for name in (*kinds, "turned.jpg")]

    program = [sys.executable, str(run / "onnx" / "onnx_runner.py"), *map(str, pictures)]
    done = subprocess.run(program, capture_output=True, text=True, check=True)

    recognizer = load_recognizer(run)
    recognizer.use(num_glimpses=2)
    expected = recognizer.predict_files(pictures)
    exported = _runner(run / "onnx", monkeypatch).OnnxRecognizer(run / "onnx")
    for path in pictures:
        assert np.array_equal(exported.open(path), recognizer.decode(path))
    assert len(done.stdout.splitlines()) == len(pictures)
    for row, line in enumerate(done.stdout.splitlines()):
        found = json.loads(line)
        assert found["steps"] == 2 and found["file"] == str(pictures[row])
        assert found["label"] == expected.label[row]
        assert found["confidence"] == pytest.approx(expected.confidence[row], abs=1e-4)
    (tmp_path / "broken.jpg").write_text("no picture")
    failed = subprocess.run([*program[:2], str(tmp_path / "broken.jpg")], capture_output=True, text=True, check=False)
    assert failed.returncode == 1 and failed.stderr.count("\n") == 1 and "broken.jpg can't be decoded" in failed.stderr
    folder = tmp_path / "folder" / "deep"
    folder.mkdir(parents=True)
    for path in (pictures[0], tmp_path / "broken.jpg"):
        shutil.copy(path, folder)
    inside = subprocess.run([*program[:2], str(folder.parent)], capture_output=True, text=True, check=True)
    (line,) = inside.stdout.splitlines()
    assert json.loads(line)["file"] == str(folder / pictures[0].name) and "skipped 1 unreadable" in inside.stderr
    help_ = subprocess.run([*program[:2], "--help"], capture_output=True, text=True, check=True).stdout
    assert "IMAGE" in help_ and "--threads" in help_
    facts = exported.facts
    assert facts["thresholds"] == [["inf"], ["-inf"], ["-inf"]] and facts["interpolation"] == "bilinear"
