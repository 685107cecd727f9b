"""Weight-only quantisation of the decoder's linear layers, done here: rounding to nearest, or with AWQ-style scales.

A quantised weight is laid out [in, out], the other way round than in a checkpoint: both TensorRT and ONNX Runtime fuse
DequantizeLinear into a MatMul of this layout only. Nothing is computed before the graph is written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from exaone_ros.errors import CheckpointError
from exaone_ros.model.checkpoint import Checkpoint
from exaone_ros.model.onnx_values import Derived
from exaone_ros.model.precision import Precision, WeightFormat
from exaone_ros.model.published import PublishedWeight
from exaone_ros.model.quantized import Quantized

INT4 = np.dtype(ml_dtypes.int4)
FP8 = np.dtype(ml_dtypes.float8_e4m3fn)
FP4 = np.dtype(ml_dtypes.float4_e2m1fn)
BLOCKS = (128, 64, 32, 16)
"""Block sizes of INT4, best first. TensorRT takes 128 and 64."""
NVFP4_BLOCK = 16
_PIECE = 1 << 22  # weights rounded at a time: the real model's largest has 140 million
_INT4_MAX, _INT8_MAX, _FP8_MAX, _FP4_MAX = 7.0, 127.0, 448.0, 6.0
_DTYPES = {
    WeightFormat.INT4: INT4,
    WeightFormat.INT8: np.dtype(np.int8),
    WeightFormat.FP8: FP8,
    WeightFormat.NVFP4: FP4,
}


@dataclass(frozen=True)
class QuantizedLinear:
    """A quantised weight whose arrays are computed when they are written; fields as in `Quantized`.

    Attributes:
        block: inputs that share a scale; None: all.
    """

    block: int | None
    values: Derived
    scale: Derived
    global_scale: Derived | None = None
    offset: Derived | None = None
    input_scale: Derived | None = None


class Quantizer:
    """Quantises the linear layers of a checkpoint's decoder; a `LinearSource` of the graph builder."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        precision: Precision,
        input_scales: Mapping[str, NDArray[np.float32]] | None = None,
    ) -> None:
        """Prepare.

        Args:
            checkpoint: with plain weights.
            precision: format of the weights and type of the scales.
            input_scales: by the name of a layer float32 [in], see `awq.input_scales`; layers without one are rounded
                as they are.

        Raises:
            ValueError: the precision has plain weights.
        """
        if precision.weights is WeightFormat.PLAIN:
            raise ValueError(f"precision '{precision.name}' does not quantise; expected int4, int8, fp8 or nvfp4")
        self._checkpoint, self._precision = checkpoint, precision
        self._input_scales = input_scales or {}
        # One weight has several arrays, which are written one after the other: compute it once.
        self._latest: Callable[[str], Quantized] = lru_cache(maxsize=1)(self.quantize)

    def quantize(self, name: str) -> Quantized:
        """The quantised weight `<name>.weight`."""
        weight = self._checkpoint.read(name + ".weight").T
        return quantize(weight, self._precision, self._input_scales.get(name))

    def linear(self, name: str) -> QuantizedLinear | None:
        if not name.startswith("text.layers."):
            return None
        out, into = self._checkpoint.stored(name + ".weight").shape
        block = block_size(self._precision.weights, into)
        if block == 0:
            return None
        scale_shape = (into // block, out) if block else (out,)
        nvfp4 = self._precision.weights is WeightFormat.NVFP4
        compute = self._precision.compute

        def part(field: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Derived:
            return Derived(dtype, shape, lambda: getattr(self._latest(name), field))

        return QuantizedLinear(
            block,
            part("values", _DTYPES[self._precision.weights], (into, out)),
            part("scale", FP8 if nvfp4 else compute, scale_shape),
            part("global_scale", compute, ()) if nvfp4 else None,
            input_scale=part("input_scale", compute, (into,)) if name in self._input_scales else None,
        )


class PublishedLinears:
    """Hands out the weights of a checkpoint that was published quantised as they are; a `LinearSource`.

    A layer that the publisher left plain stays plain. Scales are rounded to the compute type.
    """

    def __init__(self, checkpoint: Checkpoint, precision: Precision) -> None:
        """Prepare; `precision` has the format of the checkpoint's layout."""
        self._checkpoint, self._compute = checkpoint, precision.compute
        self._latest: Callable[[str], Quantized] = lru_cache(maxsize=1)(self.quantize)

    def quantize(self, name: str) -> Quantized:
        """The quantised weight `<name>.weight`."""
        weight = self._checkpoint.stored(name + ".weight")
        assert isinstance(weight, PublishedWeight)
        found = weight.quantized()
        low = self._compute
        # A scale of zero, which TensorRT refuses, belongs to weights that are all zero: with 1 they still are.
        values = np.where(_wide(found.scale == 0, found), 0, found.values.astype(np.float32)).astype(found.values.dtype)
        scale = np.where(found.scale == 0, np.float32(1), np.maximum(found.scale, _smallest(low))).astype(low)
        offset = None if found.offset is None else found.offset.astype(low)
        return Quantized(values, scale, offset=offset, block=found.block)

    def linear(self, name: str) -> QuantizedLinear | None:
        weight = self._checkpoint.stored(name + ".weight")
        if not isinstance(weight, PublishedWeight) or not name.startswith("text.layers."):
            return None
        out, into = weight.shape
        scale_shape, has_offset = weight.layout.scales(out, into)
        block = into // scale_shape[0] if len(scale_shape) == 2 else None

        def part(field: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Derived:
            return Derived(dtype, shape, lambda: getattr(self._latest(name), field))

        return QuantizedLinear(
            block,
            part("values", _DTYPES[weight.layout.format], (into, out)),
            part("scale", self._compute, scale_shape),
            offset=part("offset", self._compute, scale_shape) if has_offset else None,
        )


def _wide(flags: NDArray[np.bool_], found: Quantized) -> NDArray[np.bool_]:
    """Flags of scales as flags of the values that they belong to."""
    repeats = found.block or len(found.values) // len(flags) if flags.ndim == 2 else 1
    return np.repeat(flags, repeats, axis=0)[: len(found.values)] if flags.ndim == 2 else flags


def _smallest(compute: np.dtype[Any]) -> np.float32:
    """The least positive number that stays one in the compute type."""
    return np.float32(ml_dtypes.finfo(compute).smallest_subnormal)


def linear_source(
    checkpoint: Checkpoint, precision: Precision, input_scales: Mapping[str, NDArray[np.float32]] | None = None
) -> Quantizer | PublishedLinears | None:
    """Where the weights of a decoder's linear layers come from; None: all are plain.

    A checkpoint that was published in the format of the precision is taken as it is. In any other precision its weights
    are dequantised and rounded anew, or computed with as they are.

    Raises:
        CheckpointError: scales are given for a checkpoint that is quantised already.
    """
    if precision.weights is WeightFormat.PLAIN:
        return None
    layout = checkpoint.layout
    if layout is not None and input_scales:
        raise CheckpointError(
            f"{checkpoint.directory} is quantised already ({layout.name}): scales must be searched on plain weights; "
            "calibrate the unquantised release, or leave the calibration out"
        )
    if layout is not None and layout.format is precision.weights and _fits(checkpoint):
        return PublishedLinears(checkpoint, precision)
    return Quantizer(checkpoint, precision, input_scales)


def _fits(checkpoint: Checkpoint) -> bool:
    """Whether the graphs can express the blocks: each must hold whole inputs, and all be equal."""
    published = [tensor for tensor in checkpoint.tensors.values() if isinstance(tensor, PublishedWeight)]
    scales = [(tensor.shape[1], tensor.layout.scales(*tensor.shape)[0]) for tensor in published]
    return all(len(shape) == 1 or into % shape[0] == 0 for into, shape in scales)


def block_size(weights: WeightFormat, into: int) -> int | None:
    """Inputs that share a scale; None: all; 0: the format has no block that divides them, the layer stays plain."""
    if weights is WeightFormat.INT4:
        return next((block for block in BLOCKS if into % block == 0), 0)
    if weights is WeightFormat.NVFP4:
        return NVFP4_BLOCK if into % NVFP4_BLOCK == 0 else 0
    return None


def quantize(
    weight: NDArray[np.float32], precision: Precision, input_scale: NDArray[np.float32] | None = None
) -> Quantized:
    """Round a weight to nearest.

    Args:
        weight: float32 [in, out]. Its inputs must have a block size of the format.
        precision: format of the weights and type of the scales.
        input_scale: float32 [in], positive; the weight is divided by it and the layer's inputs multiplied.
    """
    compute = precision.compute
    rounded_inputs = None if input_scale is None else input_scale.astype(compute)
    wide = None if rounded_inputs is None else rounded_inputs.astype(np.float32)[:, None]
    into, out = weight.shape
    columns = max(1, _PIECE // into)
    pieces = [slice(at, at + columns) for at in range(0, out, columns)]

    def scaled(piece: slice) -> NDArray[np.float32]:
        return weight[:, piece] if wide is None else weight[:, piece] / wide

    if precision.weights is WeightFormat.NVFP4:
        highest = max(float(np.abs(scaled(piece)).max()) for piece in pieces)
        overall = _positive(np.asarray(highest / (_FP4_MAX * _FP8_MAX), np.float32)).astype(compute)
        found = [_nvfp4(scaled(piece), overall) for piece in pieces]
    else:
        overall = None
        found = [_by_block(scaled(piece), precision) for piece in pieces]
    values = np.concatenate([part[0] for part in found], axis=1)
    scale = np.concatenate([part[1] for part in found], axis=1)
    if precision.weights in (WeightFormat.INT8, WeightFormat.FP8):
        scale = scale[0]
    return Quantized(values, scale, None if overall is None else np.asarray(overall), input_scale=rounded_inputs)


def _by_block(weight: NDArray[np.float32], precision: Precision) -> tuple[NDArray[Any], NDArray[Any]]:
    """Values [in, n] and scales [in / block, n] of some outputs of a weight."""
    block = block_size(precision.weights, len(weight)) or len(weight)
    highest = {WeightFormat.INT4: _INT4_MAX, WeightFormat.INT8: _INT8_MAX}.get(precision.weights, _FP8_MAX)
    blocks = weight.reshape(-1, block, weight.shape[1])
    scale = _positive(np.abs(blocks).max(axis=1) / highest).astype(precision.compute)
    ratio = blocks / scale.astype(np.float32)[:, None]
    if precision.weights is WeightFormat.FP8:
        np.clip(ratio, -_FP8_MAX, _FP8_MAX, out=ratio)
        return ratio.astype(FP8).reshape(weight.shape), scale
    np.rint(ratio, out=ratio)
    np.clip(ratio, -highest - 1, highest, out=ratio)
    return ratio.astype(np.int8).astype(_DTYPES[precision.weights]).reshape(weight.shape), scale


def _nvfp4(weight: NDArray[np.float32], overall: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Values [in, n] and scales [in / 16, n] of some outputs of a weight; `overall` is the scale of the scales."""
    blocks = weight.reshape(-1, NVFP4_BLOCK, weight.shape[1])
    wide = overall.astype(np.float32)
    scale = (np.abs(blocks).max(axis=1) / _FP4_MAX / wide).astype(FP8)
    smallest = np.float32(ml_dtypes.finfo(FP8).smallest_subnormal)
    scale = np.maximum(scale.astype(np.float32), smallest).astype(FP8)
    ratio = blocks / (scale.astype(np.float32) * wide)[:, None]
    np.clip(ratio, -_FP4_MAX, _FP4_MAX, out=ratio)
    return ratio.astype(FP4).reshape(weight.shape), scale


def _positive(scale: NDArray[np.float32]) -> NDArray[np.float32]:
    """TensorRT refuses a scale of zero: 1 where all weights are, and nothing that half precision rounds to zero."""
    return np.where(scale > 0, np.maximum(scale, np.float32(1e-6)), np.float32(1.0)).astype(np.float32)
