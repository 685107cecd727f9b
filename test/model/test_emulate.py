"""Emulated half precision gives values of the type, close to what a runtime with real kernels gives."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from model.reference_error import relative_error
from model.tiny_checkpoint import write_checkpoint
from onnx import TensorProto

from exaone_ros.model.checkpoint import Checkpoint
from exaone_ros.model.decoder_graph import build_decoder
from exaone_ros.model.emulate import emulated, folded
from exaone_ros.model.onnx_graph import Graph
from exaone_ros.model.precision import precision
from exaone_ros.model.preprocess import PreprocessConfig, patchify
from exaone_ros.model.quantize import linear_source
from exaone_ros.model.vision_graph import build_vision
from exaone_ros.model.vision_plan import vision_plan


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return Checkpoint.open(write_checkpoint(tmp_path_factory.mktemp("tiny")))


def vision(checkpoint: Checkpoint, name: str) -> Graph:
    rule = PreprocessConfig.read(checkpoint.directory, checkpoint.config.vision)
    return build_vision(checkpoint, rule, 20, precision(name))


def run(model: onnx.ModelProto, checkpoint: Checkpoint) -> np.ndarray:
    patches = patchify(np.random.default_rng(0).integers(0, 256, (84, 140, 3), dtype=np.uint8), 14, 2)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, vision_plan(checkpoint.config.vision, 3, 5).feeds(patches))[0]


def test_float16_is_as_far_from_float32_as_real_kernels_are(checkpoint: Checkpoint) -> None:
    exact = run(onnx.load_from_string(vision(checkpoint, "float32").to_bytes()), checkpoint)
    real = run(onnx.load_from_string(vision(checkpoint, "float16").to_bytes()), checkpoint)
    ours = run(emulated(onnx.load_from_string(vision(checkpoint, "float16").to_bytes())), checkpoint)
    assert 0 < relative_error(ours, exact) < 1e-2
    assert 0.2 < relative_error(ours, exact) / relative_error(real, exact) < 5


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_no_half_precision_is_left_but_in_roundings(checkpoint: Checkpoint, name: str) -> None:
    model = emulated(onnx.load_from_string(vision(checkpoint, name).to_bytes()))
    halves = {TensorProto.FLOAT16, TensorProto.BFLOAT16}
    assert not halves & {tensor.data_type for tensor in model.graph.initializer}
    assert not halves & {v.type.tensor_type.elem_type for v in (*model.graph.input, *model.graph.output)}
    onnx.checker.check_model(model)
    casts = [node for node in model.graph.node if node.op_type == "Cast" and node.attribute[0].i in halves]
    products = [node for node in model.graph.node if node.op_type in ("Gemm", "MatMul")]
    rounded = {node.input[0] for node in casts}
    low = [node for node in products if not node.output[0].startswith("Gemm_") or node.output[0].endswith("/exact")]
    assert low and {node.output[0] for node in low} <= rounded


@pytest.mark.parametrize("name", ["int4", "int8-bfloat16", "fp8", "nvfp4"])
def test_folded_weights_are_what_the_quantised_ones_amount_to(checkpoint: Checkpoint, name: str) -> None:

    source = linear_source(checkpoint, precision(name))
    assert source is not None
    graph = build_decoder(checkpoint, 32, 24, None, precision(name), source)
    model = folded(onnx.load_from_string(graph.to_bytes()))
    assert not [node for node in model.graph.node if node.op_type == "DequantizeLinear"]
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    product = next(node for node in model.graph.node if node.op_type == "MatMul" and node.input[1] in weights)
    expected = source.quantize("text.layers.0.self_attn.q_proj").dequantized().T
    assert relative_error(weights[product.input[1]].astype(np.float32), expected) < 0.01
