"""Compact graphs say what the others say, with fewer operators, and take their weights from the same places."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from model.graph_session import DecoderSession, needs_opset, session
from model.reference_error import relative_error
from model.tiny_checkpoint import tiny_config, write_checkpoint

from exaone_ros.model.checkpoint import Checkpoint
from exaone_ros.model.decoder_graph import build_decoder
from exaone_ros.model.mtp_graph import build_mtp
from exaone_ros.model.onnx_graph import FUSED_FROM_OPSET, Graph, Weights
from exaone_ros.model.onnx_values import Joined, StoredAs, array_of
from exaone_ros.model.precision import precision
from exaone_ros.model.preprocess import PreprocessConfig, patchify
from exaone_ros.model.quantize import Quantizer
from exaone_ros.model.vision_graph import build_vision
from exaone_ros.model.vision_plan import vision_plan

CAPACITY = 48
OPSETS = [20, 23, 24]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return Checkpoint.open(write_checkpoint(tmp_path_factory.mktemp("tiny")))


def vision(checkpoint: Checkpoint, opset: int, *, compact: bool) -> Graph:
    rule = PreprocessConfig.read(checkpoint.directory, checkpoint.config.vision)
    return build_vision(checkpoint, rule, opset, compact=compact)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("grid", [(3, 5), (8, 4), (1, 1)], ids=["ragged", "complete", "one"])
def test_vision_sees_the_same(checkpoint: Checkpoint, opset: int, grid: tuple[int, int]) -> None:
    needs_opset(opset)
    height, width = grid
    pixels = np.random.default_rng(0).integers(0, 256, (height * 28, width * 28, 3), dtype=np.uint8)
    feeds = vision_plan(checkpoint.config.vision, *grid).feeds(patchify(pixels, 14, 2))
    graphs = [vision(checkpoint, opset, compact=compact) for compact in (False, True)]
    expected, found = (session(graph).run(None, feeds)[0] for graph in graphs)
    assert relative_error(found, expected) < 1e-5
    if opset >= FUSED_FROM_OPSET:
        assert len(graphs[1].model.graph.node) < len(graphs[0].model.graph.node)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("grouped", [True, False], ids=["grouped", "one key head each"])
def test_the_decoder_says_the_same(tmp_path: Path, opset: int, grouped: bool) -> None:
    """Prefill and steps of two rows across the sliding window."""
    needs_opset(opset)
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2 if grouped else 4}
    checkpoint = Checkpoint.open(write_checkpoint(tmp_path, tiny_config(heads)))
    vocab = checkpoint.config.text.vocab
    ids = np.random.default_rng(1).integers(80, vocab, (2, 40))
    said = []
    for compact in (False, True):
        graph = build_decoder(checkpoint, CAPACITY, opset, compact=compact)
        onnx.checker.check_model(onnx.load_from_string(graph.to_bytes()), full_check=True)
        runs = DecoderSession(graph, checkpoint.config, 2, CAPACITY)
        parts = [runs.run(ids[:, start:end]) for start, end in ((0, 30), (30, 31), (31, 34), (34, 40))]
        said.append(np.concatenate(parts, axis=1))
    assert relative_error(said[1], said[0]) < 1e-5


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("weights", Weights)
def test_joined_weights_are_written_whole(tmp_path: Path, weights: Weights, dtype: str) -> None:
    checkpoint = Checkpoint.open(write_checkpoint(tmp_path / "weights", dtype=dtype))
    graph = build_decoder(checkpoint, CAPACITY, 20, compact=True)
    graph.save(tmp_path / "decoder.onnx", weights)
    onnx.checker.check_model(tmp_path / "decoder.onnx")
    written = {tensor.name: tensor for tensor in onnx.load(tmp_path / "decoder.onnx").graph.initializer}
    joined = [name for name, value in graph.values.items() if isinstance(value, Joined)]
    assert len(joined) == checkpoint.config.text.layers
    for name in joined:
        prefix = name.removesuffix("qkv_proj")
        parts = [checkpoint.read(f"{prefix}{part}_proj.weight") for part in "qkv"]
        np.testing.assert_array_equal(onnx.numpy_helper.to_array(written[name]), np.concatenate(parts))
        np.testing.assert_array_equal(array_of(graph.values[name]), np.concatenate(parts))


def test_only_plain_float32_can_be_compact(checkpoint: Checkpoint) -> None:
    half, int8 = precision("float16"), precision("int8-bfloat16")
    rule = PreprocessConfig.read(checkpoint.directory, checkpoint.config.vision)
    with pytest.raises(ValueError, match="'float16'; only plain float32"):
        build_decoder(checkpoint, CAPACITY, 24, precision=half, compact=True)
    with pytest.raises(ValueError, match="'float16'; only plain float32"):
        build_vision(checkpoint, rule, 24, half, compact=True)
    with pytest.raises(ValueError, match="only plain float32"):
        build_decoder(checkpoint, CAPACITY, 24, linears=Quantizer(checkpoint, int8), compact=True)


def test_what_differs_in_kind_cannot_be_joined(checkpoint: Checkpoint) -> None:
    head = checkpoint.stored("lm_head.weight")
    norm = checkpoint.stored("text.norm.weight")
    single, half = np.dtype(np.float32), np.dtype(np.float16)
    for parts in ((StoredAs(head, single), StoredAs(norm, single)), (StoredAs(head, single), StoredAs(head, half)), ()):
        with pytest.raises(ValueError, match="cannot be joined; expected one or more of one kind"):
            Joined(parts)


def test_the_mtp_layer_can_be_compact(tmp_path: Path) -> None:
    checkpoint = Checkpoint.open(write_checkpoint(tmp_path, tiny_config(), mtp=True))
    graphs = [build_mtp(checkpoint, CAPACITY, 24, compact=compact) for compact in (False, True)]
    for graph in graphs:
        onnx.checker.check_model(onnx.load_from_string(graph.to_bytes()), full_check=True)
    assert len(graphs[1].model.graph.node) < len(graphs[0].model.graph.node)
