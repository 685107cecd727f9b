"""Quantised releases are read as they are laid out, taken over as they are, and refused by name if unknown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model.graph_session import DecoderSession
from model.published_checkpoint import CONFIGS, published_tensors, write_parts, write_published
from model.reference_error import relative_error
from model.tiny_checkpoint import tiny_config, write_checkpoint

from exaone_ros.errors import CheckpointError
from exaone_ros.model.checkpoint import Checkpoint, canonical_name
from exaone_ros.model.decoder_graph import build_decoder
from exaone_ros.model.precision import WeightFormat, precision
from exaone_ros.model.quantize import PublishedLinears, Quantizer, linear_source

KINDS = list(CONFIGS)
CAPACITY = 48


@pytest.mark.parametrize("kind", KINDS)
def test_weights_amount_to_what_was_packed(tmp_path: Path, kind: str) -> None:
    exact = write_published(tmp_path, kind)
    checkpoint = Checkpoint.open(tmp_path)
    assert checkpoint.layout is not None and checkpoint.dtype in (checkpoint.layout.name, "BF16")
    assert not checkpoint.unused
    for stored, values in exact.items():
        np.testing.assert_allclose(checkpoint.read(canonical_name(stored)), values, rtol=1e-6, atol=1e-7)


def answers(checkpoint: Checkpoint, name: str, source: Any, opset: int = 21) -> np.ndarray:
    rng = np.random.default_rng(3)
    graph = build_decoder(checkpoint, CAPACITY, opset, None, precision(name), source)
    run = DecoderSession(graph, checkpoint.config, 2, CAPACITY).run
    return np.concatenate([run(rng.integers(0, 160, (2, n))) for n in (20, 1, 2)], axis=1)


@pytest.mark.parametrize(
    ("kind", "name", "tolerance"),
    [
        ("awq", "int4-float32", 1e-4), ("awq", "int4", 1e-2), ("packed", "int4-bfloat16", 8e-2),
        ("fp8-blocks", "fp8-float32", 1e-4), ("fp8-channel", "fp8", 1e-2),
    ],
)  # fmt: skip
def test_graphs_with_weights_as_they_are_say_what_float32_says(
    tmp_path: Path, kind: str, name: str, tolerance: float
) -> None:
    write_published(tmp_path, kind)
    checkpoint = Checkpoint.open(tmp_path)
    source = linear_source(checkpoint, precision(name))
    assert isinstance(source, PublishedLinears)
    assert source.linear("text.layers.0.self_attn.o_proj") is None, "left plain by its publisher"
    assert source.linear("text.layers.0.mlp.up_proj") is not None
    expected = answers(checkpoint, "float32", None, 20)
    assert relative_error(answers(checkpoint, name, source), expected) < tolerance


def test_values_and_scales_reach_the_graph_untouched(tmp_path: Path) -> None:
    write_published(tmp_path, "awq")
    source = linear_source(Checkpoint.open(tmp_path), precision("int4"))
    assert isinstance(source, PublishedLinears)
    linear = source.linear("text.layers.1.mlp.down_proj")
    assert linear is not None and linear.offset is not None and linear.block == 32
    for part in (linear.values, linear.scale, linear.offset):
        value = part.compute()
        assert (value.dtype, value.shape) == (part.dtype, part.shape)
    tensors, _ = published_tensors("awq", tiny_config())
    np.testing.assert_array_equal(
        linear.scale.compute(), tensors["model.language_model.layers.1.mlp.down_proj.scales"][1]
    )


def test_another_precision_rounds_the_dequantised_weights_anew(tmp_path: Path) -> None:
    write_published(tmp_path, "fp8-blocks")
    checkpoint = Checkpoint.open(tmp_path)
    assert linear_source(checkpoint, precision("bfloat16")) is None
    source = linear_source(checkpoint, precision("int8"))
    assert isinstance(source, Quantizer)
    found = source.quantize("text.layers.0.mlp.up_proj").dequantized()
    assert relative_error(found, checkpoint.read("text.layers.0.mlp.up_proj.weight")) < 0.01


def test_scales_are_not_searched_on_rounded_weights(tmp_path: Path) -> None:
    write_published(tmp_path, "awq")
    with pytest.raises(CheckpointError, match=r"is quantised already \(AWQ\): scales must be searched on plain"):
        linear_source(Checkpoint.open(tmp_path), precision("int4"), {"text.layers.0.mlp.up_proj": np.ones(64)})


def test_zero_scales_become_ones_of_zero_weights(tmp_path: Path) -> None:
    """TensorRT refuses a scale of zero; an all-zero group is published with one."""
    write_published(tmp_path, "fp8-blocks")
    config = tiny_config()
    tensors, _ = published_tensors("fp8-blocks", config)
    name = "model.language_model.layers.0.mlp.up_proj"
    scale = tensors[name + ".weight_scale_inv"][1].copy()
    scale[0, 1] = 0
    write_parts(tmp_path / "model.safetensors", {**tensors, name + ".weight_scale_inv": ("F32", scale)})
    checkpoint = Checkpoint.open(tmp_path)
    source = linear_source(checkpoint, precision("fp8"))
    assert source is not None
    found = source.quantize("text.layers.0.mlp.up_proj")
    assert (found.scale.astype(np.float32) > 0).all()
    assert not found.dequantized()[:32, 32:64].any()
    assert relative_error(found.dequantized(), checkpoint.read("text.layers.0.mlp.up_proj.weight")) < 1e-3


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("awq", {"quant_method": "gptq"}, r"quant_method is 'gptq'; expected one of \('awq', 'fp8'"),
        ("awq", {"quant_method": None}, "quant_method is None"),
        ("awq", {"version": "gemv"}, "version is 'gemv'; expected 'gemm'"),
        ("awq", {"bits": 8}, "bits is 8; expected 4"),
        ("awq", {"zero_point": False}, "zero_point is False"),
        ("awq", {"group_size": -1}, "group_size is -1; expected a multiple of 16"),
        ("fp8-blocks", {"fmt": "e5m2"}, "fmt is 'e5m2'"),
        ("fp8-blocks", {"scale_fmt": "ue8m0"}, "scale_fmt is 'ue8m0'"),
        ("fp8-blocks", {"weight_block_size": [128]}, r"weight_block_size is \[128\]; expected two sizes"),
        ("packed", {"format": "nvfp4-pack-quantized"}, "format is 'nvfp4-pack-quantized'; expected 'float-quantized'"),
        ("packed", {"config_groups": {}}, "0 config_groups; expected one"),
        ("packed", {"config_groups": {"g": {"weights": {"num_bits": 4, "actorder": "group"}}}}, "actorder is 'group'"),
        ("packed", {"config_groups": {"g": {"weights": {"num_bits": 8}}}}, "num_bits is 8; expected 4"),
        ("fp8-channel", {"quantization_status": "initialized"}, "quantization_status is 'initialized'"),
    ],
)
def test_unknown_layouts_are_refused_by_name(tmp_path: Path, kind: str, changes: dict[str, Any], message: str) -> None:
    write_published(tmp_path, kind, **changes)
    with pytest.raises(CheckpointError, match=message):
        Checkpoint.open(tmp_path)


def broken(tmp_path: Path, kind: str, change: Any) -> str:
    """The message for a release whose tensors were changed."""
    write_published(tmp_path, kind)
    tensors, _ = published_tensors(kind, tiny_config())
    change(tensors, "model.language_model.layers.0.mlp.up_proj")
    write_parts(tmp_path / "model.safetensors", tensors)
    with pytest.raises(CheckpointError) as caught:
        Checkpoint.open(tmp_path).read("text.layers.0.mlp.up_proj.weight")
    return str(caught.value)


def test_damaged_parts_are_named(tmp_path: Path) -> None:
    def lose(tensors: Any, layer: str) -> None:
        del tensors[layer + ".qzeros"]

    def reshape(tensors: Any, layer: str) -> None:
        tensors[layer + ".scales"] = ("F16", np.ones((2, 64), np.float16))

    def retype(tensors: Any, layer: str) -> None:
        tensors[layer + ".qweight"] = ("F32", np.ones((64, 16), np.float32))

    def double(tensors: Any, layer: str) -> None:
        tensors[layer + ".weight"] = ("BF16", np.zeros((128, 64), np.uint16))

    def spoil(tensors: Any, layer: str) -> None:
        tensors[layer + ".scales"] = ("F16", np.full((2, 128), np.nan, np.float16))

    assert "lacks its tensor 'text.layers.0.mlp.up_proj.qzeros'" in broken(tmp_path, "awq", lose)
    assert "has shape [2, 64]; expected [2, 128] for a AWQ weight of [128, 64]" in broken(tmp_path, "awq", reshape)
    assert "is of type F32; expected one of ('I32',) in AWQ" in broken(tmp_path, "awq", retype)
    assert "is there both plain and quantised" in broken(tmp_path, "awq", double)
    assert "a scale of" in broken(tmp_path, "awq", spoil)


LAYER = "model.language_model.layers.0.mlp.up_proj"


@pytest.mark.parametrize("shape", [(128,), (128, 1), (1, 128)])
def test_scales_of_outputs_are_taken_in_any_shape_that_has_one_for_each(tmp_path: Path, shape: tuple[int, ...]) -> None:
    exact = write_published(tmp_path, "fp8-channel")
    tensors, _ = published_tensors("fp8-channel", tiny_config())
    dtype, scale = tensors[LAYER + ".weight_scale"]
    write_parts(tmp_path / "model.safetensors", {**tensors, LAYER + ".weight_scale": (dtype, scale.reshape(shape))})
    found = Checkpoint.open(tmp_path).read(canonical_name(LAYER + ".weight"))
    np.testing.assert_array_equal(found, exact[LAYER + ".weight"])


@pytest.mark.parametrize("kind", ["fp8-channel", "fp8-blocks"])
@pytest.mark.parametrize("suffix", [".weight_scale", ".weight_scale_inv"])
def test_scales_are_found_under_either_name(tmp_path: Path, kind: str, suffix: str) -> None:
    """transformers writes `weight_scale_inv` with blocks and without, others `weight_scale`."""
    changes = {} if kind == "fp8-blocks" else {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "static"}
    exact = write_published(tmp_path, kind, **changes)
    tensors, _ = published_tensors(kind, tiny_config())
    renamed = {name.partition(".weight_scale")[0] + suffix if ".weight_scale" in name else name: tensors[name]
               for name in tensors}  # fmt: skip
    write_parts(tmp_path / "model.safetensors", renamed)
    found = Checkpoint.open(tmp_path).read(canonical_name(LAYER + ".weight"))
    np.testing.assert_array_equal(found, exact[LAYER + ".weight"])
    both = {**renamed, LAYER + ".weight_scale": tensors[next(n for n in tensors if n.startswith(LAYER + ".weight_s"))]}
    if suffix == ".weight_scale_inv":
        write_parts(tmp_path / "model.safetensors", both)
        with pytest.raises(
            CheckpointError, match=r"both are 'text\.layers\.0\.mlp\.up_proj\.weight_scale'; expected one"
        ):
            Checkpoint.open(tmp_path)


def test_scales_of_inputs_and_transposed_blocks_are_refused_by_their_shape(tmp_path: Path) -> None:
    def of_inputs(tensors: Any, layer: str) -> None:
        tensors[layer + ".weight_scale"] = ("F32", np.ones((1, 64), np.float32))

    def transposed(tensors: Any, layer: str) -> None:
        tensors[layer + ".weight_scale_inv"] = ("F32", np.ones((2, 4), np.float32))

    assert "has shape [1, 64]; expected [] or [1] or [1, 1] or [128]" in broken(tmp_path, "fp8-channel", of_inputs)
    assert "has shape [2, 4]; expected [4, 2]" in broken(tmp_path, "fp8-blocks", transposed)


def test_quantised_tensors_without_a_word_in_the_configuration_are_refused(tmp_path: Path) -> None:
    write_published(tmp_path, "fp8-channel")
    config = json.loads((tmp_path / "config.json").read_text())
    del config["quantization_config"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"is of type F8_E4M3; expected .*quantization_config in config\.json"):
        Checkpoint.open(tmp_path)


def test_a_change_in_any_part_is_another_checkpoint(tmp_path: Path) -> None:
    write_published(tmp_path, "awq")
    before = Checkpoint.open(tmp_path).fingerprint()
    tensors, _ = published_tensors("awq", tiny_config())
    name = "model.language_model.layers.0.mlp.up_proj.qzeros"
    write_parts(tmp_path / "model.safetensors", {**tensors, name: ("I32", tensors[name][1] + 1)})
    assert Checkpoint.open(tmp_path).fingerprint() != before


def test_plain_checkpoints_have_no_layout(tmp_path: Path) -> None:
    checkpoint = Checkpoint.open(write_checkpoint(tmp_path))
    assert checkpoint.layout is None
    assert isinstance(linear_source(checkpoint, precision("int4")), Quantizer)
    assert precision("int4").weights is WeightFormat.INT4
