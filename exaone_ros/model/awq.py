"""AWQ-style scales: inputs that matter most are made larger before rounding, and their weights smaller by as much.

After Lin et al., "AWQ: Activation-aware Weight Quantization" (2023). EXAONE 4.5 normalises after its sublayers: there
is no norm in front of a layer to fold a scale into, and the inputs are multiplied where they are used.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exaone_ros.errors import CheckpointError
from exaone_ros.model.checkpoint import Checkpoint
from exaone_ros.model.precision import Precision
from exaone_ros.model.quantize import quantize

STRENGTHS = tuple(step / 10 for step in range(11))
"""Exponents that are tried; 0 is rounding to nearest, so that the search never makes it worse on its samples."""


@dataclass(frozen=True)
class InputScales:
    """Scales of a decoder's linear layers, as a search on calibration frames found them.

    Attributes:
        by_layer: by the name of a layer float32 [in]; the layer's inputs are multiplied by it.
    """

    by_layer: Mapping[str, NDArray[np.float32]] = field(repr=False)

    @property
    def digest(self) -> str:
        """SHA-256 over names and values, as hex."""
        digest = hashlib.sha256()
        for name in sorted(self.by_layer):
            digest.update(f"{name} {self.by_layer[name].shape}\n".encode())
            digest.update(np.ascontiguousarray(self.by_layer[name], "<f4").tobytes())
        return digest.hexdigest()

    def save(self, path: Path) -> None:
        """Write an .npz file, whole or not at all."""
        scratch = path.with_name(f".{path.stem}.{id(self)}.npz")
        try:
            np.savez(scratch, **dict(self.by_layer))  # type: ignore[arg-type]  # numpy's own keyword is no array
            scratch.replace(path)
        except OSError:
            scratch.unlink(missing_ok=True)
            raise

    @classmethod
    def load(cls, path: Path) -> InputScales:
        """Read what `save` wrote.

        Raises:
            CheckpointError: the file is missing or damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                found = {name: np.asarray(file[name], np.float32) for name in file.files}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise CheckpointError(f"{path}: no input scales can be read: {error}; calibrate again") from error
        wrong = [
            name for name, scale in found.items() if scale.ndim != 1 or not (np.isfinite(scale) & (scale > 0)).all()
        ]
        if wrong:
            raise CheckpointError(f"{path}: the scale of '{wrong[0]}' is not positive; calibrate again")
        return cls(found)


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
