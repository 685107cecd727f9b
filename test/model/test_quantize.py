"""Rounding of weights: how far off, what is exact, what the library's rules demand, and what AWQ's scales gain."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model.tiny_checkpoint import write_checkpoint

from exaone_ros.model import quantize as quantizing
from exaone_ros.model.awq import best_scale, input_scales
from exaone_ros.model.checkpoint import Checkpoint
from exaone_ros.model.precision import PRECISIONS, WeightFormat, precision
from exaone_ros.model.quantize import Quantizer, block_size, quantize

# Largest error of one weight relative to the largest of its block or column.
STEP = {"int4": 0.5 / 7, "int8": 0.5 / 127, "fp8": 2**-4, "nvfp4": 0.2}
QUANTISED = [name for name in PRECISIONS if PRECISIONS[name].weights is not WeightFormat.PLAIN]


def weight(into: int = 256, out: int = 48, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(into, out)).astype(np.float32)


@pytest.mark.parametrize("name", QUANTISED)
def test_rounding_stays_within_a_step(name: str) -> None:
    chosen, plain = precision(name), weight()
    error = np.abs(quantize(plain, chosen).dequantized().T - plain)
    block = block_size(chosen.weights, len(plain)) or len(plain)
    largest = np.abs(plain).reshape(-1, block, plain.shape[1]).max(axis=1)
    slack = 1.0 if chosen.compute == np.float32 else 1.15  # the scale is rounded too
    assert (error <= slack * STEP[chosen.weights.value] * np.repeat(largest, block, axis=0) + 1e-6).all()
    assert error.max() > 0


@pytest.mark.parametrize("name", QUANTISED)
def test_scales_are_positive_even_of_weights_that_are_zero(name: str) -> None:
    """TensorRT's parser refuses a graph with a scale of zero."""
    plain = weight()
    plain[:128] = 0
    plain[:, 3] = 0
    found = quantize(plain, precision(name))
    assert (found.scale.astype(np.float32) > 0).all()
    assert not found.dequantized().T[:128].any()
    assert np.isfinite(quantize(np.full((128, 4), 1e-30, np.float32), precision(name)).dequantized()).all()


@pytest.mark.parametrize("name", ["int4", "int8", "fp8", "nvfp4"])
def test_rounding_in_pieces_is_rounding(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, scale = weight(), np.exp(np.random.default_rng(3).normal(size=256)).astype(np.float32)
    whole = quantize(plain, precision(name), scale)
    monkeypatch.setattr(quantizing, "_PIECE", 256 * 7)
    pieces = quantize(plain, precision(name), scale)
    for part in ("values", "scale"):
        np.testing.assert_array_equal(getattr(whole, part).astype(np.float32), getattr(pieces, part).astype(np.float32))
    assert whole.global_scale == pieces.global_scale


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([16, 64, 128, 384]))
def test_integers_in_range_survive_exactly(seed: int, into: int) -> None:
    rng = np.random.default_rng(seed)
    plain = rng.integers(-7, 8, (into, 6)).astype(np.float32) * 0.5
    plain[:: block_size(WeightFormat.INT4, into) or 1] = 3.5  # each block reaches 7 steps
    found = quantize(plain, precision("int4"))
    np.testing.assert_array_equal(found.dequantized().T, plain)


@pytest.mark.parametrize(("into", "block"), [(5120, 128), (27392, 128), (192, 64), (96, 32), (48, 16), (40, 0)])
def test_the_largest_block_that_divides_is_taken(into: int, block: int) -> None:
    assert block_size(WeightFormat.INT4, into) == block


def test_a_layer_without_a_block_size_stays_plain(tmp_path: Path) -> None:
    checkpoint = Checkpoint.open(write_checkpoint(tmp_path))
    quantizer = Quantizer(checkpoint, precision("int4"))
    assert quantizer.linear("visual.blocks.0.attn.qkv") is None
    found = quantizer.linear("text.layers.0.mlp.down_proj")
    assert found is not None and found.block == 128
    with pytest.raises(ValueError, match="'float16' does not quantise"):
        Quantizer(checkpoint, precision("float16"))


def test_a_weight_is_computed_once_for_all_of_its_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint, reads = Checkpoint.open(write_checkpoint(tmp_path)), []
    read = Checkpoint.read
    monkeypatch.setattr(Checkpoint, "read", lambda self, name: reads.append(name) or read(self, name))
    found = Quantizer(checkpoint, precision("nvfp4")).linear("text.layers.0.mlp.up_proj")
    assert found is not None and found.global_scale is not None
    assert reads == []
    for part in (found.values, found.scale, found.global_scale):
        value = part.compute()
        assert (value.dtype, value.shape) == (part.dtype, part.shape)
    assert reads == ["text.layers.0.mlp.up_proj.weight"]


def outliers(seed: int = 0) -> np.ndarray:
    """Inputs of which a few are thirty times the others, as they are inside language models."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(96, 256)).astype(np.float32)
    inputs[:, ::37] *= 30
    return inputs


def test_scales_lower_the_error_where_few_inputs_are_large() -> None:
    plain, inputs, fresh = weight(), outliers(), outliers(1)
    chosen = precision("int4")
    scale = best_scale(plain, inputs, chosen)
    assert scale is not None

    def error(input_scale: np.ndarray | None) -> float:
        return float(np.square(fresh @ (quantize(plain, chosen, input_scale).dequantized().T - plain)).mean())

    assert error(scale) < 0.6 * error(None)


def test_a_scaled_weight_times_scaled_inputs_is_the_weight() -> None:
    plain = weight()
    scale = np.exp(np.random.default_rng(3).normal(size=256)).astype(np.float32)
    found = quantize(plain, precision("int8-float32"), scale)
    assert found.input_scale is not None
    step = np.abs(plain / scale[:, None]).max(axis=0) / 127 * scale[:, None]
    assert (np.abs(found.dequantized().T - plain) <= 0.51 * step + 1e-6).all()


def test_layers_that_no_scale_helps_are_left_out(tmp_path: Path) -> None:
    checkpoint = Checkpoint.open(write_checkpoint(tmp_path))
    name = "text.layers.0.mlp.up_proj"
    assert input_scales(checkpoint, precision("int4"), {name: np.zeros((4, 64), np.float32)}) == {}
