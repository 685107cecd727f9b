"""The steps of `make gpu-check` themselves, here on the fake device."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnxruntime")

import gpu_check
import gpu_steps
import onnxruntime
import real_size
from engine.tensorrt.fake_cuda import FakeCuda
from engine.tensorrt.fake_tensorrt import fake_library
from gpu_check import ON_TENSORRT, REAL_SIZE, STEPS, main
from gpu_steps import Settings, line_of
from real_size import Room, fitting_layers, preset_for

from exaone_ros.engine.backends.onnx_support import best_opset
from exaone_ros.engine.presets import preset
from exaone_ros.engine.tensorrt import compile as compiling
from exaone_ros.engine.tensorrt.random_checkpoint import layers_of_33b
from exaone_ros.errors import EngineError
from exaone_ros.model.config import ModelConfig

SMALL = gpu_steps.small_config()
PLENTY = Room(10**12, 10**12, 10**12)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine has."""

    def none() -> None:
        raise EngineError("no CUDA device")

    monkeypatch.setattr(gpu_steps, "CudaRuntime", none)


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("layers", ["fit", "2"])
def test_a_plan_lists_every_step_with_its_memory(
    layers: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu_steps, "room_here", lambda folder, gpu: Room(0, 10**12, 10**12))
    assert main(["--plan", "--preset", "h100", "--layers", layers]) == 0
    found = {line["step"]: line for line in map(json.loads, capsys.readouterr().out.splitlines())}
    assert list(found) == list(STEPS)
    assert all(line["ran"] is False and line["expected_device_mb"] >= 0 for line in found.values())
    assert all(found[step]["expected_device_mb"] > 600 for step in ON_TENSORRT)
    real = found[REAL_SIZE]
    assert real["layers"] == (64 if layers == "fit" else 2)
    assert real["expected_device_mb"] == pytest.approx(sum(real["of_it_mb"].values()), abs=len(real["of_it_mb"]))


@pytest.mark.usefixtures("no_gpu")
def test_a_plan_says_where_the_real_size_does_not_fit_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_steps, "room_here", lambda folder, gpu: Room(0, 10**9, 10**12))
    real = gpu_steps.expectations("h100", "fit")[REAL_SIZE]
    assert "expected one of default, orin-64" in gpu_steps.expectations("tpu", "fit")[REAL_SIZE]["reason"]
    assert real["layers"] == 0 and "1 would take" in real["limited_by"] and "main memory" in real["limited_by"]


@pytest.mark.parametrize("short", ["device", "host", "disk"])
def test_as_many_layers_as_there_is_room_for(short: str) -> None:
    chosen = preset("h100")
    assert fitting_layers(chosen, PLENTY) == (64, "the released model has 64")
    last = 64
    for size in (50, 30, 15, 8, 1):
        room = Room(**{**vars(PLENTY), short: size * 10**9})
        layers, limit = fitting_layers(chosen, room)
        assert 0 <= layers <= last and limit != "the released model has 64"
        assert f"{layers + 1} would take" in limit
        if layers:
            assert chosen.memory(ModelConfig.parse(layers_of_33b(layers))).device <= 0.9 * room.device
        last = layers
    assert last == 0


def test_presets_are_found_by_the_gpus_name() -> None:
    names = {
        "NVIDIA H200": "h100", "NVIDIA H100 80GB HBM3": "h100", "Orin": "orin-64", "NVIDIA Thor": "thor",
        "NVIDIA GeForce RTX 5090": "rtx-32",
    }  # fmt: skip
    assert {name: preset_for(name) for name in names} == names


def smaller_config() -> dict[str, Any]:
    """Two layers of a quarter of the width: the fake computes on the CPU."""
    config = json.loads(json.dumps(SMALL))
    config["text_config"] |= {
        "hidden_size": 256, "intermediate_size": 256, "num_attention_heads": 2, "num_key_value_heads": 1,
        "num_hidden_layers": 2, "layer_types": ["sliding_attention", "full_attention"],
    }  # fmt: skip
    config["vision_config"] |= {
        "hidden_size": 128, "intermediate_size": 128, "num_heads": 2, "num_key_value_heads": 1, "depth": 2,
        "out_hidden_size": 256, "fullatt_block_indexes": [1],
    }  # fmt: skip
    return config


@pytest.mark.skipif(best_opset(onnxruntime) < 24, reason="the fake runs on ONNX Runtime, which has no opset 24 here")
@pytest.mark.parametrize("name", ["float16", "int4"])
def test_engines_are_compared_with_the_cpu_of_the_same_precision(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_steps, "STEPS_TIMED", 3)
    monkeypatch.setattr(gpu_steps, "small_config", smaller_config)
    monkeypatch.setattr(compiling, "free_memory", lambda: 1 << 40)
    cuda = FakeCuda()
    line = line_of("s", lambda: gpu_steps.tensorrt(Settings(tmp_path), fake_library(cuda), cuda, name))
    assert line["ran"] and line["ok"], line
    assert line["largest_error"] < gpu_steps.TOLERANCE[name] and line["same_choice"] > 0.8
    assert line["kept_by_a_second_close_mb"] == 0 and not cuda.leaked
    assert {"decode_step_of_3_p50_ms", "image_and_prefill_ms", "build_s", "device_expected_mb"} <= line.keys()
    json.dumps(line)


def test_the_real_size_says_what_is_short(tmp_path: Path) -> None:
    cuda = FakeCuda("NVIDIA H100 80GB HBM3")
    settings = Settings(tmp_path)
    line = line_of(
        REAL_SIZE, lambda: gpu_steps.timed_real_size(settings, fake_library(cuda), cuda, Room(10**9, 10**12, 10**12))
    )
    assert line["ran"] is False and "not one layer of the real size fits: 1 would take" in line["reason"]


def test_a_failure_at_the_real_size_says_how_many_layers_were_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise MemoryError("cudaMalloc")

    monkeypatch.setattr(gpu_steps, "real_size", fail)
    cuda = FakeCuda("NVIDIA H100 80GB HBM3")
    line = line_of(REAL_SIZE, lambda: gpu_steps.timed_real_size(Settings(tmp_path), fake_library(cuda), cuda, PLENTY))
    assert line["ok"] is False and line["layers"] == 64 and line["reason"] == "MemoryError: cudaMalloc"
    assert gpu_check.fewer_layers(line, "fit") == "32"


def test_a_step_that_this_machine_cannot_run_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(names: object) -> None:
        raise EngineError("TensorRT is not installed")

    monkeypatch.setattr(gpu_steps, "load_library", none)
    line = line_of("tensorrt-int4", gpu_steps.work_of("tensorrt-int4", Settings(tmp_path)))
    assert line == {"step": "tensorrt-int4", "ran": False, "ok": None, "reason": "TensorRT is not installed"}
    assert real_size.LAYERS == 64
