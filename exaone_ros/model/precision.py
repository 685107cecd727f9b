"""What a graph computes in and how its weights are stored. Knows no checkpoint and no runtime."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import ml_dtypes
import numpy as np

_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


class WeightFormat(Enum):
    """How the weights of the decoder's linear layers are stored; all else is stored in the type of the computation."""

    PLAIN = "plain"
    INT8 = "int8"
    """Symmetric, one scale for each output."""
    INT4 = "int4"
    """Symmetric, one scale for each block of inputs and each output."""
    FP8 = "fp8"
    """E4M3, one scale for each output, or blocks as a published checkpoint has them."""
    NVFP4 = "nvfp4"
    """E2M1 in blocks of 16 with E4M3 scales, and one scale for the whole."""


_MIN_OPSET = {
    WeightFormat.PLAIN: 18,
    WeightFormat.INT8: 19,  # scales in half precision
    WeightFormat.INT4: 21,
    WeightFormat.FP8: 21,
    WeightFormat.NVFP4: 23,
}


@dataclass(frozen=True)
class Precision:
    """Types of a graph.

    Matrix products, attention and KV caches are in `compute`; the residual stream, norms, rotation, softmax and
    activation functions always are float32: they cost little and decide over accuracy.

    Attributes:
        name: e.g. "float16", "int4", "int4-bfloat16".
        compute: float32, float16 or (ml_dtypes) bfloat16.
        weights: of the decoder's linear layers.
    """

    name: str
    compute: np.dtype[Any]
    weights: WeightFormat = WeightFormat.PLAIN

    @property
    def mixed(self) -> bool:
        """True where `compute` is not float32, so that values have to be cast."""
        return self.compute != np.float32

    @property
    def min_opset(self) -> int:
        """The first ONNX opset that has the types."""
        return _MIN_OPSET[self.weights]


def _all() -> dict[str, Precision]:
    computes = {"float32": np.dtype(np.float32), "float16": np.dtype(np.float16), "bfloat16": _BFLOAT16}
    found = {name: Precision(name, dtype) for name, dtype in computes.items()}
    for weights in WeightFormat:
        if weights is not WeightFormat.PLAIN:
            found[weights.value] = Precision(weights.value, computes["float16"], weights)
            for name, dtype in computes.items():
                if name == "float16":
                    continue
                found[f"{weights.value}-{name}"] = Precision(f"{weights.value}-{name}", dtype, weights)
    return found


PRECISIONS = _all()
"""By name. A quantised format alone computes in float16; "-bfloat16" has the range of the released weights."""
FLOAT32 = PRECISIONS["float32"]


def precision(name: str) -> Precision:
    """The precision of a name.

    Raises:
        ValueError: an unknown name.
    """
    if name not in PRECISIONS:
        raise ValueError(f"precision is {name!r}; expected one of {', '.join(PRECISIONS)}")
    return PRECISIONS[name]
