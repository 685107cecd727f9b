"""How far two answers are apart. Needs no torch, unlike `reference`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def relative_error(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Largest absolute error relative to the largest expected value."""
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / np.abs(expected).max())
