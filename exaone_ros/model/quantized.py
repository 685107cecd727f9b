"""A quantised weight as arrays, wherever it comes from: rounded here, or published so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Quantized:
    """A quantised weight as arrays.

    weight[i, o] = values[i, o] * scale[i / block, o] * global_scale + offset[i / block, o]

    Attributes:
        values: int4, int8, float8_e4m3fn or float4_e2m1fn [in, out].
        scale: [in / block, out], or [out] without blocks; positive.
        global_scale: of the scales themselves (NVFP4), a scalar.
        offset: [in / block, out], from formats with zero points.
        block: inputs that share a scale, where they are not `in` divided by the rows of `scale`.
        input_scale: [in]; the layer's inputs are multiplied by it, the weight is already divided by it.
    """

    values: NDArray[Any]
    scale: NDArray[Any]
    global_scale: NDArray[Any] | None = None
    offset: NDArray[Any] | None = None
    input_scale: NDArray[Any] | None = None
    block: int | None = None

    def dequantized(self) -> NDArray[np.float32]:
        """The weight that a product with it amounts to, float32 [out, in] as in a checkpoint."""
        weight = self.values.astype(np.float32)
        repeats = self.block or (len(weight) // len(self.scale) if self.scale.ndim == 2 else 1)
        scale = self.scale.astype(np.float32)
        if self.global_scale is not None:
            scale = scale * self.global_scale.astype(np.float32)
        weight *= np.repeat(scale, repeats, axis=0)[: len(weight)] if scale.ndim == 2 else scale
        if self.offset is not None:
            weight += np.repeat(self.offset.astype(np.float32), repeats, axis=0)[: len(weight)]
        if self.input_scale is not None:
            weight *= self.input_scale.astype(np.float32)[:, None]
        return np.ascontiguousarray(weight.T)
