"""Build plans are data: golden per version, and every shape that a backend can produce fits them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model.tiny_checkpoint import tiny_config

from exaone_ros.engine.backends.ring import Ring, cache_bytes
from exaone_ros.engine.tensorrt.memory import (
    decoder_activation_bytes,
    decoder_weight_bytes,
    estimate,
    vision_activation_bytes,
    vision_weight_bytes,
)
from exaone_ros.engine.tensorrt.plan import Capacity, plan_engines
from exaone_ros.engine.tensorrt.random_checkpoint import layers_of_33b
from exaone_ros.engine.tensorrt.versions import target_for
from exaone_ros.errors import EngineError
from exaone_ros.model.config import ModelConfig
from exaone_ros.model.precision import precision
from exaone_ros.model.vision_plan import vision_plan

CONFIG = ModelConfig.parse(tiny_config())
CAPACITY = Capacity(slots=3, context=96, chunk=32, visual_tokens=60)
GOLDEN = Path(__file__).parents[2] / "data" / "tensorrt_plans.json"
VERSIONS = [
    ("tensorrt", "10.3.0"), ("tensorrt", "10.13.3.9"), ("tensorrt", "10.16.1.11"), ("tensorrt", "11.4.0.106"),
    ("tensorrt_rtx", "1.7.1.116"),
]  # fmt: skip


def plans(library: str, version: str, capacity: Capacity = CAPACITY) -> list[dict]:
    found = plan_engines(CONFIG, target_for(library, version), precision("int4"), capacity)
    return json.loads(json.dumps([plan.as_json() for plan in found]))


@pytest.mark.parametrize(("library", "version"), VERSIONS)
def test_plans_are_those_on_record(library: str, version: str) -> None:
    """A changed plan makes every engine in every cache stale: that must not happen by accident."""
    assert plans(library, version) == json.loads(GOLDEN.read_text())[f"{library} {version}"]


def test_a_decode_profile_comes_last_and_is_for_single_tokens() -> None:
    capacity = Capacity(slots=3, context=96, chunk=32, visual_tokens=60, decode_profile=True)
    prefill, decode = plans("tensorrt", "11.4.0", capacity)[1]["profiles"]
    assert decode["input_ids"] == [[1, 1], [1, 1], [3, 1]]
    assert prefill["input_ids"] == [[1, 1], [1, 32], [3, 32]]


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 60))
def test_every_image_that_fits_by_its_tokens_fits_by_its_windows(height: int, width: int) -> None:
    if height * width > CAPACITY.visual_tokens:
        return
    vision, _ = plan_engines(CONFIG, target_for("tensorrt", "11.4"), precision("float16"), CAPACITY)
    plan = vision_plan(CONFIG.vision, height, width)
    for name, values in plan.arrays().items():
        if name != "patch_index":
            least, _, most = vision.profiles[0].shapes[name]
            assert all(a <= n <= b for a, n, b in zip(least, values.shape, most, strict=True)), name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"slots": 0}, "slots is 0; expected an integer of at least 1"),
        ({"context": 8}, "context is 8; expected an integer of at least 16"),
        ({"chunk": 100}, "chunk is 100, more than the context of 96"),
        ({"visual_tokens": True}, "visual_tokens is True"),
    ],
)
def test_sizes_that_make_no_sense_are_refused(changes: dict, message: str) -> None:
    sizes = {"slots": 3, "context": 96, "chunk": 32, "visual_tokens": 60, **changes}
    with pytest.raises(EngineError, match=message):
        Capacity(**sizes)


def test_a_context_beyond_the_model_is_refused() -> None:
    with pytest.raises(EngineError, match="context is 100000; the checkpoint has positions for 65536"):
        plan_engines(CONFIG, target_for("tensorrt", "11.4"), precision("int4"), Capacity(context=100_000))


def test_a_precision_that_the_version_lacks_is_refused() -> None:
    with pytest.raises(EngineError, match=r"precision 'nvfp4' cannot be built by tensorrt 10\.3"):
        plan_engines(CONFIG, target_for("tensorrt", "10.3"), precision("nvfp4"), CAPACITY)


def test_sliding_layers_of_the_real_size_take_the_memory_of_their_window() -> None:
    """Four slots of 32k tokens in bfloat16: 48 layers hold 4096 + 512 positions, 16 layers all."""
    config = ModelConfig.parse(layers_of_33b(64, vocab=1024, vision_depth=1))
    capacity, chosen = Capacity(slots=4, context=32768, chunk=512), precision("int4-bfloat16")
    position = 2 * 8 * 128 * 2
    assert estimate(config, chosen, capacity).caches == 4 * position * (48 * 4608 + 16 * 32768) == 12_213_813_248
    assert cache_bytes(config.text, 4, 32768, None, 2) == 4 * position * 64 * 32768 == 34_359_738_368
    _, decoder = plan_engines(config, target_for("tensorrt", "11.4"), chosen, capacity)
    shapes = {name: sizes[2] for name, sizes in decoder.profiles[0].shapes.items()}
    assert shapes["past_k.0"] == (4, 8, 4608, 128) and shapes["past_k.3"] == (4, 8, 32768, 128)
    assert shapes["mask_local"] == (4, 1, 512, 4608) and shapes["mask_global"] == (4, 1, 512, 32768)
    held = sum(math.prod(shape) * 2 for name, shape in shapes.items() if name.startswith("past_"))
    assert held == estimate(config, chosen, capacity).caches


def test_a_context_within_window_and_chunk_has_no_ring() -> None:
    config = ModelConfig.parse(layers_of_33b(4, vocab=1024, vision_depth=1))
    assert Capacity(context=4608, chunk=512).ring(config.text) is None
    assert Capacity(context=4609, chunk=512).ring(config.text) == Ring(4096, 512, 4608)
    assert Capacity(context=8192, chunk=16).ring(config.text) == Ring(4096, 128, 4224), "room for refused drafts"


def test_expected_memory_of_the_real_size_is_what_the_builder_said() -> None:
    """Figures of TensorRT-RTX 1.7.1 for one layer, int4-bfloat16, two vision blocks; see docs/tensorrt.md."""
    config, chosen = ModelConfig.parse(layers_of_33b(1, vocab=1024, vision_depth=2)), precision("int4-bfloat16")
    capacity = Capacity(slots=4, context=2048, chunk=512, visual_tokens=1024)
    assert decoder_weight_bytes(config.text, chosen) == pytest.approx(271_427_616, rel=0.01)
    assert vision_weight_bytes(config.vision, 2) == pytest.approx(390_746_368, rel=0.01)
    assert 1 <= decoder_activation_bytes(config, capacity, 2) / 449_913_344 < 4 / 3
    assert 1 <= vision_activation_bytes(config, capacity, 2) / 240_144_384 < 4 / 3
    for layers, peak in ((1, 1_432_000_000), (2, 2_049_000_000), (3, 2_796_000_000)):
        need = estimate(ModelConfig.parse(layers_of_33b(layers, vocab=1024, vision_depth=1)), chosen, capacity)
        assert peak < need.build_host < 1.5 * peak
