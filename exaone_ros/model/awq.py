"""AWQ-style scales: inputs that matter most are made larger before rounding, and their weights smaller by as much.

After Lin et al., "AWQ: Activation-aware Weight Quantization" (2023). EXAONE 4.5 normalises after its sublayers: there
is no norm in front of a layer to fold a scale into, and the inputs are multiplied where they are used.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from exaone_ros.model.checkpoint import Checkpoint
from exaone_ros.model.precision import Precision
from exaone_ros.model.quantize import quantize

STRENGTHS = tuple(step / 10 for step in range(11))
"""Exponents that are tried; 0 is rounding to nearest, so that the search never makes it worse on its samples."""


def input_scales(
    checkpoint: Checkpoint, precision: Precision, samples: Mapping[str, NDArray[np.float32]]
) -> dict[str, NDArray[np.float32]]:
    """Search the scale of each layer that there are samples for.

    Args:
        checkpoint: with plain weights.
        precision: that the weights will be quantised to.
        samples: by the name of a layer some of its inputs on typical frames, float32 [n, in]; see `calibrate`.

    Returns:
        By the name of a layer float32 [in]; layers that no scale helps are left out.
    """
    found = {}
    for name, inputs in samples.items():
        scale = best_scale(checkpoint.read(name + ".weight").T, inputs, precision)
        if scale is not None:
            found[name] = scale
    return found


def best_scale(
    weight: NDArray[np.float32], inputs: NDArray[np.float32], precision: Precision
) -> NDArray[np.float32] | None:
    """The scale of one layer with the least squared error of its outputs; None where rounding as it is does best.

    Args:
        weight: float32 [in, out].
        inputs: float32 [n, in].
        precision: of the quantised weight.
    """
    size = np.abs(inputs).mean(axis=0)
    if not size.any():
        return None
    size = np.maximum(size, size.max() * 1e-4)
    expected = inputs @ weight
    best, least = None, np.inf
    for strength in STRENGTHS:
        # Weights are multiplied by size^strength, inputs divided; the geometric mean of both ends stays at one.
        weights_by = size**strength
        weights_by /= np.sqrt(weights_by.max() * weights_by.min())
        scale = None if strength == 0 else (1 / weights_by).astype(np.float32)
        quantized = quantize(weight, precision, scale).dequantized().T
        error = float(np.square(inputs @ quantized - expected).sum())
        if error < least:
            best, least = scale, error
    return best
