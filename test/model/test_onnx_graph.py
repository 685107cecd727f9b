"""Graphs are valid at every opset, and say the same wherever their weights are kept."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from model.tiny_checkpoint import tiny_config, write_checkpoint

from exaone_ros.engine.backends.onnx_support import best_opset
from exaone_ros.errors import CheckpointError
from exaone_ros.model import onnx_graph, onnx_values
from exaone_ros.model.checkpoint import Checkpoint
from exaone_ros.model.decoder_graph import KvWrite, build_decoder
from exaone_ros.model.onnx_graph import Graph, Weights
from exaone_ros.model.precision import precision
from exaone_ros.model.preprocess import PreprocessConfig, patchify
from exaone_ros.model.vision_graph import build_vision
from exaone_ros.model.vision_plan import vision_plan


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return Checkpoint.open(write_checkpoint(tmp_path_factory.mktemp("tiny")))


OPSET = best_opset(onnxruntime)


def vision_graph(checkpoint: Checkpoint, opset: int = OPSET) -> Graph:
    return build_vision(checkpoint, PreprocessConfig.read(checkpoint.directory, checkpoint.config.vision), opset)


def see(model: str | bytes, checkpoint: Checkpoint) -> np.ndarray:
    patches = patchify(np.random.default_rng(0).integers(0, 256, (84, 140, 3), dtype=np.uint8), 14, 2)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(None, vision_plan(checkpoint.config.vision, 3, 5).feeds(patches))[0]


@pytest.mark.parametrize("opset", range(18, 25))
def test_every_opset_passes_the_checker(checkpoint: Checkpoint, opset: int) -> None:
    for graph in (vision_graph(checkpoint, opset), build_decoder(checkpoint, 64, opset)):
        model = onnx.load_from_string(graph.to_bytes())
        onnx.checker.check_model(model, full_check=True)
        used = {name for node in model.graph.node for name in node.input}
        assert used >= {value.name for value in model.graph.input}, "an input that nothing reads is silently ignored"
        assert used >= {value.name for value in model.graph.initializer}


@pytest.mark.parametrize("kind", ["sliding_attention", "full_attention"])
def test_a_mask_that_no_layer_needs_is_no_input(tmp_path: Path, kind: str) -> None:
    checkpoint = Checkpoint.open(write_checkpoint(tmp_path, tiny_config({"layer_types": [kind] * 4})))
    names = {value.name for value in build_decoder(checkpoint, 64).model.graph.input}
    assert names & {"mask_local", "mask_global"} == {"mask_local" if kind == "sliding_attention" else "mask_global"}


@pytest.mark.parametrize("opset", [17, 25])
def test_another_opset_is_refused(checkpoint: Checkpoint, opset: int) -> None:
    with pytest.raises(ValueError, match=f"opset is {opset}; expected 18 to 24"):
        vision_graph(checkpoint, opset)


def test_tensor_scatter_needs_its_opset(checkpoint: Checkpoint) -> None:
    with pytest.raises(ValueError, match="TensorScatter needs 24"):
        build_decoder(checkpoint, 64, 23, KvWrite.TENSOR_SCATTER)


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("weights", Weights)
def test_weights_say_the_same_wherever_they_are_kept(tmp_path: Path, weights: Weights, dtype: str) -> None:
    checkpoint = Checkpoint.open(write_checkpoint(tmp_path / "weights", dtype=dtype))
    graph = vision_graph(checkpoint)
    graph.save(tmp_path / "vision.onnx", weights)
    np.testing.assert_array_equal(see(str(tmp_path / "vision.onnx"), checkpoint), see(graph.to_bytes(), checkpoint))


def test_weights_of_a_float32_checkpoint_are_not_written_again(tmp_path: Path) -> None:
    checkpoint = Checkpoint.open(write_checkpoint(tmp_path))
    graph = build_decoder(checkpoint, 64)
    graph.save(tmp_path / "decoder.onnx", Weights.CHECKPOINT)
    assert (tmp_path / "decoder.onnx").stat().st_size < graph.weight_bytes / 10
    model = onnx.load(tmp_path / "decoder.onnx", load_external_data=False)
    head = next(value for value in model.graph.initializer if value.name == "lm_head.weight")
    assert {entry.key: entry.value for entry in head.external_data}["location"] == "model.safetensors"


def test_a_model_cannot_refer_to_weights_outside_its_folder(tmp_path: Path) -> None:
    checkpoint = Checkpoint.open(write_checkpoint(tmp_path / "a"))
    (tmp_path / "b").mkdir()
    with pytest.raises(CheckpointError, match="cannot refer to weights"):
        vision_graph(checkpoint).save(tmp_path / "b" / "vision.onnx", Weights.CHECKPOINT)


def test_weights_beyond_the_limit_of_protobuf_go_to_a_file(
    tmp_path: Path, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = vision_graph(checkpoint)
    expected = see(graph.to_bytes(), checkpoint)
    monkeypatch.setattr(onnx_graph, "_INLINE_LIMIT", 1000)
    with pytest.raises(CheckpointError, match="at most 2 GB"):
        graph.to_bytes()
    graph.save(tmp_path / "vision.onnx")
    np.testing.assert_array_equal(see(str(tmp_path / "vision.onnx"), checkpoint), expected)


@pytest.mark.parametrize("dtype", ["BF16", "F32", "F16"])
def test_weights_stream_from_the_checkpoint_into_the_graph(
    tmp_path: Path, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No table is whole in memory, whether its bytes are copied or converted; what is written is what it was."""
    wide = tiny_config({"vocab_size": 8192})
    checkpoint = Checkpoint.open(write_checkpoint(tmp_path, wide, dtype=dtype))
    graph = build_decoder(checkpoint, 32, 20, precision=precision("bfloat16"))
    monkeypatch.setattr(onnx_values, "_PIECE_BYTES", 1 << 16)
    tracemalloc.start()
    graph.save(tmp_path / "decoder.onnx", Weights.FILE)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.5 * graph.values["lm_head.weight"].shape[0] * 64 * 2, "half of one table"
    written = {t.name: t for t in onnx.load(tmp_path / "decoder.onnx").graph.initializer}
    whole = onnx.load_from_string(graph.to_bytes())
    for tensor in whole.graph.initializer:
        assert written[tensor.name].raw_data == tensor.raw_data, tensor.name


def test_a_checkpoint_cut_short_while_it_streams_is_named(tmp_path: Path) -> None:
    checkpoint = Checkpoint.open(write_checkpoint(tmp_path))
    tensor = checkpoint.stored("lm_head.weight")
    (tmp_path / "model.safetensors").write_bytes(b"short")
    with pytest.raises(CheckpointError, match="ends 40960 bytes early: truncated"):
        list(tensor.bytes_in_pieces(1 << 20))
