"""The real parser and builder of TensorRT-RTX take the graphs. Runs without a GPU; that they run, it cannot show.

Needs the extra `tensorrt-rtx`; without it one line says that these were skipped.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from model.published_checkpoint import write_published
from model.tiny_checkpoint import tiny_config, write_checkpoint

from exaone_ros.engine.tensorrt.build import build_engine, make_logger
from exaone_ros.engine.tensorrt.compile import compile_checkpoint, plan_jobs
from exaone_ros.engine.tensorrt.memory import (
    decoder_activation_bytes,
    decoder_weight_bytes,
    vision_activation_bytes,
    vision_weight_bytes,
)
from exaone_ros.engine.tensorrt.plan import Capacity, EnginePlan
from exaone_ros.engine.tensorrt.versions import Library, load_library
from exaone_ros.errors import EngineError, MissingExtra
from exaone_ros.model.awq import InputScales
from exaone_ros.model.checkpoint import Checkpoint
from exaone_ros.model.onnx_graph import Weights
from exaone_ros.model.precision import precision

try:
    RTX = load_library(["tensorrt_rtx"])
except MissingExtra as error:
    pytest.skip(f"TensorRT-RTX is not here: {error}", allow_module_level=True)

CAPACITY = Capacity(slots=3, context=128, chunk=64, visual_tokens=48)
BUNDLED = Path(__file__).parents[3] / "models" / "exaone4_5-tabletop-tiny" / "config.json"
REAL_HEADS = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "head_dim": 128,
    "num_hidden_layers": 2,
    "layer_types": ["sliding_attention", "full_attention"],
}
PRECISIONS = ["float16", "bfloat16", "int4", "int4-bfloat16", "int8", "fp8", "nvfp4"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """Two layers with the head sizes of the real model: 128 in the decoder, 64 in the vision encoder."""
    vision = {"hidden_size": 256, "depth": 2, "fullatt_block_indexes": [1]}
    return Checkpoint.open(write_checkpoint(tmp_path_factory.mktemp("real-heads"), tiny_config(REAL_HEADS, vision)))


@pytest.fixture(scope="module")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """The bundled architecture with random weights: heads of 48."""
    return Checkpoint.open(write_checkpoint(tmp_path_factory.mktemp("bundled"), json.loads(BUNDLED.read_text())))


def build(checkpoint: Checkpoint, name: str, engine: str, folder: Path, capacity: Capacity = CAPACITY) -> bytes:
    (job,) = [
        job for job in plan_jobs(checkpoint, RTX, None, precision(name), capacity, folder) if job.plan.name == engine
    ]
    job.graph.save(folder / "graph.onnx", Weights.FILE)
    return bytes(memoryview(build_engine(RTX, job.plan, folder / "graph.onnx")))


@pytest.mark.parametrize("name", PRECISIONS)
def test_decoders_are_built(checkpoint: Checkpoint, tmp_path: Path, name: str) -> None:
    """`build_engine` refuses an engine that would ignore an input, so none is ignored."""
    assert len(build(checkpoint, name, "decoder", tmp_path)) > 10_000


def test_a_decoder_with_scaled_inputs_is_built(checkpoint: Checkpoint, tmp_path: Path) -> None:
    scales = InputScales(
        {f"text.layers.0.{n}": np.full(256, 1.5, np.float32) for n in ("mlp.up_proj", "self_attn.q_proj")}
    )
    _, job = plan_jobs(checkpoint, RTX, None, precision("int4-bfloat16"), CAPACITY, tmp_path, scales)
    job.graph.save(tmp_path / "graph.onnx", Weights.FILE)
    assert build_engine(RTX, job.plan, tmp_path / "graph.onnx").nbytes > 10_000


@pytest.mark.parametrize(
    ("kind", "name"),
    [("awq", "int4"), ("packed", "int4-bfloat16"), ("fp8-blocks", "fp8-bfloat16"), ("fp8-channel", "fp8-bfloat16")],
)
def test_decoders_of_published_checkpoints_are_built(tmp_path: Path, kind: str, name: str) -> None:
    """Weights as they are: with offsets for zero points, and with scales for blocks of 128."""
    write_published(tmp_path / "published", kind, tiny_config(REAL_HEADS, {"hidden_size": 256, "depth": 1}), group=128)
    published = Checkpoint.open(tmp_path / "published")
    assert len(build(published, name, "decoder", tmp_path)) > 10_000


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_vision_encoders_are_built(checkpoint: Checkpoint, tmp_path: Path, name: str) -> None:
    assert len(build(checkpoint, name, "vision", tmp_path)) > 10_000


@pytest.mark.parametrize(("name", "engine"), [("float16", "vision"), ("float16", "decoder"), ("int4", "decoder")])
def test_the_bundled_architecture_is_built(bundled: Checkpoint, tmp_path: Path, name: str, engine: str) -> None:
    assert len(build(bundled, name, engine, tmp_path)) > 10_000


def test_expected_memory_is_what_the_builder_says(bundled: Checkpoint, tmp_path: Path) -> None:
    """Weights without norms and tables, 8% of a model this small; activations a bound that is no third too large."""
    capacity, chosen = Capacity(slots=4, context=512, chunk=128, visual_tokens=128), precision("int4-bfloat16")
    config, item = bundled.config, chosen.compute.itemsize
    expected = {
        "vision": (vision_weight_bytes(config.vision, item), vision_activation_bytes(config, capacity, item)),
        "decoder": (decoder_weight_bytes(config.text, chosen), decoder_activation_bytes(config, capacity, item)),
    }
    for job in plan_jobs(bundled, RTX, None, chosen, capacity, tmp_path):
        figures: dict[str, int] = {}
        job.graph.save(tmp_path / "graph.onnx", Weights.FILE)
        build_engine(RTX, job.plan, tmp_path / "graph.onnx", report=figures.__setitem__)
        weights, activations = expected[job.plan.name]
        assert weights == pytest.approx(figures["weights_bytes"], rel=0.1), job.plan.name
        assert 1.0 <= activations / figures["activation_bytes"] < 4 / 3, job.plan.name


def test_a_decode_profile_is_accepted(checkpoint: Checkpoint, tmp_path: Path) -> None:
    capacity = Capacity(slots=3, context=128, chunk=64, visual_tokens=48, decode_profile=True)
    assert len(build(checkpoint, "int4", "decoder", tmp_path, capacity)) > 10_000


def test_sliding_layers_with_caches_of_their_own_length_are_built(checkpoint: Checkpoint, tmp_path: Path) -> None:
    capacity = Capacity(slots=3, context=512, chunk=64, visual_tokens=48)
    _, job = plan_jobs(checkpoint, RTX, None, precision("float16"), capacity, tmp_path)
    assert job.plan.profiles[0].shapes["past_k.0"][2][2] < 512 and "write_index_local" in job.plan.profiles[0].shapes
    assert len(build(checkpoint, "float16", "decoder", tmp_path, capacity)) > 10_000


def test_compiling_needs_no_gpu(checkpoint: Checkpoint, tmp_path: Path) -> None:
    seen: list[float] = []
    compiled = compile_checkpoint(
        checkpoint, RTX, None, precision("int4"), CAPACITY, root=tmp_path,
        progress=lambda phase, done: seen.append(done), available_bytes=lambda: 1 << 40,
    )  # fmt: skip
    assert compiled.built and compiled.vision.stat().st_size > 10_000
    assert seen and all(0 <= done <= 1 for done in seen), "the progress monitor was never told anything"


def test_an_engine_without_a_gpu_fails_cleanly(checkpoint: Checkpoint, tmp_path: Path) -> None:
    engine = build(checkpoint, "float16", "decoder", tmp_path)
    logger = make_logger(RTX.module)
    if RTX.module.Runtime(logger).deserialize_cuda_engine(engine) is None:
        assert logger.messages, "refused without a reason"


def broken(folder: Path) -> tuple[Library, EnginePlan, Path]:
    (folder / "graph.onnx").write_bytes(b"no graph")
    return RTX, EnginePlan("decoder", 24, "float16", (), 1 << 20), folder / "graph.onnx"


def test_what_is_no_graph_is_refused_with_the_parsers_words(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"tensorrt_rtx .* cannot parse the decoder graph: \w+"):
        build_engine(*broken(tmp_path))
