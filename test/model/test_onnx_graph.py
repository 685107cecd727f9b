"""Graphs are valid at every opset, and say the same wherever their weights are kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from model.tiny_checkpoint import tiny_config, write_checkpoint

from exaone_ros.engine.backends.onnx_support import best_opset
from exaone_ros.errors import CheckpointError
from exaone_ros.model import onnx_graph
from exaone_ros.model.checkpoint import Checkpoint
from exaone_ros.model.decoder_graph import KvWrite, build_decoder
from exaone_ros.model.onnx_graph import Graph, Weights
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
