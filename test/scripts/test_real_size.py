"""The timing of the real size goes through to its end: here at a small size, on the fake device."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import onnxruntime
import pytest
from engine.tensorrt.fake_cuda import FakeCuda
from engine.tensorrt.fake_tensorrt import fake_library
from model.tiny_checkpoint import tiny_config
from real_size import real_size

from exaone_ros.engine.backends.onnx_support import best_opset
from exaone_ros.engine.presets import preset
from exaone_ros.engine.tensorrt import compile as compiling
from exaone_ros.engine.tensorrt.plan import Capacity
from exaone_ros.model.precision import precision


@pytest.mark.skipif(best_opset(onnxruntime) < 24, reason="the fake runs on ONNX Runtime, which has no opset 24 here")
def test_every_stage_is_timed_and_the_device_is_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "free_memory", lambda: 1 << 40)
    capacity = Capacity(slots=2, context=128, chunk=32, visual_tokens=16)
    small = replace(preset("default"), precision=precision("float16"), capacity=capacity)
    cuda = FakeCuda()
    facts = real_size(
        tmp_path, tiny_config(), small, fake_library(cuda), cuda, prompt_tokens=40, image_px=(84, 112)
    )  # fmt: skip
    assert facts["ok"] and facts["layers"] == 4
    stages = {"image", "prompt", "decode_step"}
    assert facts["times_ms"].keys() == facts["expected_ms"].keys() == facts["times_roofline"].keys() == stages
    assert facts["times_ms"]["prompt"] > 0 and facts["times_ms"]["decode_step"] > 0
    assert facts["device_expected_mb"] > 0
    json.dumps(facts)
