"""Every variant of the graphs is valid ONNX and says what the float32 graph says on the same weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from model.graph_session import DecoderSession, needs_opset, session
from model.reference_error import relative_error
from model.tiny_checkpoint import PREFIXES, random_weights, tiny_config, write_checkpoint, write_safetensors
from onnx import TensorProto

from exaone_ros.model.checkpoint import Checkpoint
from exaone_ros.model.decoder_graph import build_decoder
from exaone_ros.model.onnx_graph import Graph, Weights
from exaone_ros.model.precision import PRECISIONS, WeightFormat, precision
from exaone_ros.model.preprocess import PreprocessConfig, patchify
from exaone_ros.model.quantize import Quantizer
from exaone_ros.model.vision_graph import build_vision
from exaone_ros.model.vision_plan import vision_plan

CAPACITY = 64
BUNDLED = Path(__file__).parents[2] / "models" / "exaone4_5-tabletop-tiny" / "config.json"
VARIANTS = [(name, opset) for name in PRECISIONS for opset in sorted({max(20, PRECISIONS[name].min_opset), 24})]
# Largest error relative to the largest logit: rounding of 11, 8 or 24 bits through four layers.
TOLERANCE = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 8e-2}


@pytest.fixture(scope="module", params=["random", "bundled"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """Random weights: of a small model, and of the architecture of the bundled checkpoint (head size 48)."""
    config = tiny_config() if request.param == "random" else json.loads(BUNDLED.read_text())
    return Checkpoint.open(write_checkpoint(tmp_path_factory.mktemp(request.param), config))


def decoder(checkpoint: Checkpoint, name: str, opset: int, *, fixed: bool = True) -> Graph:
    chosen = precision(name)
    linears = None if chosen.weights is WeightFormat.PLAIN else Quantizer(checkpoint, chosen)
    return build_decoder(checkpoint, CAPACITY, opset, None, chosen, linears, fixed_capacity=fixed)


def vision(checkpoint: Checkpoint, name: str, opset: int) -> Graph:
    preprocess = PreprocessConfig.read(checkpoint.directory, checkpoint.config.vision)
    return build_vision(checkpoint, preprocess, opset, precision(name))


@pytest.mark.parametrize(("name", "opset"), VARIANTS)
def test_every_variant_passes_the_checker(checkpoint: Checkpoint, name: str, opset: int) -> None:
    graphs = [decoder(checkpoint, name, opset)]
    graphs += [vision(checkpoint, name, opset)] if precision(name).weights is WeightFormat.PLAIN else []
    for graph in graphs:
        model = onnx.load_from_string(graph.to_bytes())
        onnx.checker.check_model(model, full_check=True)
        used = {value for node in model.graph.node for value in node.input}
        assert used >= {value.name for value in (*model.graph.input, *model.graph.initializer)}


def test_types_are_never_mixed_without_a_cast(checkpoint: Checkpoint) -> None:
    """Strongly typed networks take float operators whose inputs agree; integers and masks do not count."""
    floats = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16}
    for name in ("float16", "bfloat16", "int4"):
        model = onnx.shape_inference.infer_shapes(onnx.load_from_string(decoder(checkpoint, name, 24).to_bytes()))
        graph = model.graph
        types = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.input, *graph.output)}
        types |= {v.name: v.data_type for v in graph.initializer}
        assert all(out in types for node in graph.node for out in node.output), "shape inference left a type open"
        for node in graph.node:
            kinds = {types[value] for value in (*node.input, *node.output) if value} & floats
            assert node.op_type == "Cast" or len(kinds) <= 1, f"{node.name} mixes {kinds}"


def test_caches_have_the_compute_type_and_a_fixed_length(checkpoint: Checkpoint) -> None:
    """TensorRT's TensorScatter refuses a cache of unknown length."""
    model = decoder(checkpoint, "bfloat16", 24).model
    for value in (*model.graph.input, *model.graph.output):
        if value.name.startswith(("past_", "present_")):
            assert value.type.tensor_type.elem_type == TensorProto.BFLOAT16
            assert value.type.tensor_type.shape.dim[2].dim_value == CAPACITY
    flexible = decoder(checkpoint, "bfloat16", 24, fixed=False).model
    assert {
        value.type.tensor_type.shape.dim[2].dim_param for value in flexible.graph.input if "past" in value.name
    } == {"L"}


def dequantised(checkpoint: Checkpoint, name: str, tmp_path: Path, quantizer: Quantizer | None = None) -> Checkpoint:
    """The checkpoint with its quantised weights replaced by what they amount to."""
    chosen = precision(name)
    if chosen.weights is WeightFormat.PLAIN:
        return checkpoint
    quantizer, weights = quantizer or Quantizer(checkpoint, chosen), {}
    for canonical in checkpoint.tensors:
        layer = canonical.removesuffix(".weight")
        linear = len(checkpoint.stored(canonical).shape) == 2 and quantizer.linear(layer) is not None
        values = quantizer.quantize(layer).dequantized() if linear else checkpoint.read(canonical)
        prefix = next(p for p in PREFIXES if canonical.startswith(p))
        weights[PREFIXES[prefix] + canonical[len(prefix) :]] = np.ascontiguousarray(values)
    for file in ("config.json", "preprocessor_config.json"):
        (tmp_path / file).write_bytes((checkpoint.directory / file).read_bytes())
    write_safetensors(tmp_path / "model.safetensors", weights)
    return Checkpoint.open(tmp_path)


def answers(graph: Graph, checkpoint: Checkpoint) -> np.ndarray:
    """Logits of a prefill with visual tokens and of three decode steps, batch of 2, across the sliding window."""
    rng = np.random.default_rng(7)
    run = DecoderSession(graph, checkpoint.config, 2, CAPACITY).run
    visual = rng.normal(size=(6, checkpoint.config.text.hidden)).astype(np.float32)
    pieces = [(30, visual), (1, None), (3, None)]
    vocab = checkpoint.config.text.vocab
    return np.concatenate([run(rng.integers(0, vocab, (2, n)), image) for n, image in pieces], axis=1)


@pytest.mark.parametrize(("name", "opset"), VARIANTS)
def test_decoders_agree_with_float32_on_the_same_weights(
    checkpoint: Checkpoint, name: str, opset: int, tmp_path: Path
) -> None:
    needs_opset(opset)
    same = dequantised(checkpoint, name, tmp_path)
    expected = answers(decoder(same, "float32", 20), checkpoint)
    found = answers(decoder(checkpoint, name, opset), checkpoint)
    compute = precision(name).compute.name
    assert relative_error(found, expected) < TOLERANCE[compute]


@pytest.mark.parametrize("name", ["int4-float32", "int8"])
def test_scaled_inputs_meet_weights_divided_by_as_much(checkpoint: Checkpoint, name: str, tmp_path: Path) -> None:
    """AWQ-style scales change the rounding of the weights and nothing else."""
    rng, chosen = np.random.default_rng(1), precision(name)
    scales = {
        canonical.removesuffix(".weight"): np.exp(0.5 * rng.normal(size=tensor.shape[1])).astype(np.float32)
        for canonical, tensor in checkpoint.tensors.items()
        if canonical.startswith("text.layers.0.") and len(tensor.shape) == 2
    }
    quantizer = Quantizer(checkpoint, chosen, scales)
    same = dequantised(checkpoint, name, tmp_path, quantizer)
    expected = answers(decoder(same, "float32", 20), checkpoint)
    found = answers(build_decoder(checkpoint, CAPACITY, 21, None, chosen, quantizer, fixed_capacity=True), checkpoint)
    assert relative_error(found, expected) < TOLERANCE[chosen.compute.name]


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
@pytest.mark.parametrize("opset", [20, 24])
def test_vision_agrees_with_float32(checkpoint: Checkpoint, name: str, opset: int) -> None:
    needs_opset(opset)
    patches = patchify(np.random.default_rng(0).integers(0, 256, (84, 140, 3), dtype=np.uint8), 14, 2)
    feeds = vision_plan(checkpoint.config.vision, 3, 5).feeds(patches)
    expected, found = (session(vision(checkpoint, kind, opset)).run(None, feeds)[0] for kind in ("float32", name))
    assert relative_error(found, expected) < TOLERANCE[name]


def test_int4_weights_take_a_quarter_of_half_precision(checkpoint: Checkpoint) -> None:
    def layers(name: str) -> int:
        graph = decoder(checkpoint, name, 24)
        model = onnx.load_from_string(graph.to_bytes())
        return sum(
            len(t.raw_data) for t in model.graph.initializer if t.name.startswith("text.layers.") and "proj" in t.name
        )

    assert layers("int4") < 0.27 * layers("float16") + 1
    assert decoder(checkpoint, "int4", 24).weight_bytes < decoder(checkpoint, "float16", 24).weight_bytes


@pytest.mark.parametrize("name", ["float16", "int4", "nvfp4", "bfloat16"])
def test_packed_weights_say_the_same_in_a_file(tmp_path: Path, checkpoint: Checkpoint, name: str) -> None:
    graph = decoder(checkpoint, name, 24)
    graph.save(tmp_path / "decoder.onnx", Weights.FILE)
    beside, inside = onnx.load(tmp_path / "decoder.onnx"), onnx.load_from_string(graph.to_bytes())
    for left, right in zip(beside.graph.initializer, inside.graph.initializer, strict=True):
        assert (left.name, left.data_type, left.raw_data) == (right.name, right.data_type, right.raw_data)


def test_half_precision_weights_stay_in_a_checkpoint_of_that_type(tmp_path: Path) -> None:
    checkpoint = Checkpoint.open(write_checkpoint(tmp_path, dtype="BF16"))
    graph = build_decoder(checkpoint, CAPACITY, precision=precision("bfloat16"))
    graph.save(tmp_path / "decoder.onnx", Weights.CHECKPOINT)
    model = onnx.load(tmp_path / "decoder.onnx", load_external_data=False)
    head = next(value for value in model.graph.initializer if value.name == "lm_head.weight")
    assert {entry.key: entry.value for entry in head.external_data}["location"] == "model.safetensors"
    beside, inside = onnx.load(tmp_path / "decoder.onnx"), onnx.load_from_string(graph.to_bytes())
    for left, right in zip(beside.graph.initializer, inside.graph.initializer, strict=True):
        assert (left.name, left.raw_data) == (right.name, right.raw_data)


def test_a_precision_needs_its_opset(checkpoint: Checkpoint) -> None:
    with pytest.raises(ValueError, match="opset is 20; precision 'int4' needs 21"):
        decoder(checkpoint, "int4", 20)


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ValueError, match=r"precision is 'int3'; expected one of float32, .*int4"):
        precision("int3")


def test_random_weights_do_discriminate() -> None:
    """The parity above means nothing if the weights are so small that all logits are alike."""
    weights = random_weights(tiny_config())
    assert np.std(weights["lm_head.weight"]) > 0.1
