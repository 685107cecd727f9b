"""Normalisation statistics of a dataset's features, and normalising with them, as LeRobot and openpi do it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from exaone_ros.errors import DatasetError

MEAN_STD, QUANTILES = "mean_std", "quantiles"
"""The two ways to normalise: to mean 0 and standard deviation 1; or [q01, q99] to [-1, 1]."""

EPSILON = 1e-6
"""Added to what is divided by, as in openpi: a constant entry must not become infinite."""

QUANTILE_KEYS = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}


@dataclass(frozen=True, eq=False)
class Statistics:
    """Of one feature over many frames; each array has one number for each entry of the feature.

    Attributes:
        mean, std, min, max, q01, q10, q50, q90, q99: float64 [D].
        count: number of frames.
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    min: NDArray[np.float64]
    max: NDArray[np.float64]
    q01: NDArray[np.float64]
    q10: NDArray[np.float64]
    q50: NDArray[np.float64]
    q90: NDArray[np.float64]
    q99: NDArray[np.float64]
    count: int

    @staticmethod
    def of(values: ArrayLike) -> Statistics:
        """Statistics of [N, D] numbers.

        Raises:
            DatasetError: no rows, or numbers that are not finite.
        """
        data = np.asarray(values, np.float64)
        if data.ndim != 2 or len(data) == 0:
            raise DatasetError(f"statistics asked of shape {list(data.shape)}; expected [N, D] with N >= 1")
        if not np.isfinite(data).all():
            raise DatasetError("statistics asked of numbers that are not finite; leave those frames out")
        quantiles = np.quantile(data, list(QUANTILE_KEYS.values()), axis=0)
        return Statistics(
            mean=data.mean(axis=0),
            std=data.std(axis=0),
            min=data.min(axis=0),
            max=data.max(axis=0),
            count=len(data),
            **dict(zip(QUANTILE_KEYS, quantiles, strict=True)),
        )

    @staticmethod
    def merged(parts: Sequence[Statistics]) -> Statistics:
        """Of the frames of all `parts`.

        Exact but for the quantiles, which are averaged by the number of frames, as LeRobot does.
        """
        if not parts:
            raise DatasetError("nothing to merge statistics of")
        counts = np.array([part.count for part in parts], np.float64)
        weights = (counts / counts.sum())[:, None]
        mean = (weights * np.stack([p.mean for p in parts])).sum(axis=0)
        spread = np.stack([p.std**2 + (p.mean - mean) ** 2 for p in parts])
        return Statistics(
            mean=mean,
            std=np.sqrt((weights * spread).sum(axis=0)),
            min=np.min(np.stack([p.min for p in parts]), axis=0),
            max=np.max(np.stack([p.max for p in parts]), axis=0),
            count=int(counts.sum()),
            **{key: (weights * np.stack([getattr(p, key) for p in parts])).sum(axis=0) for key in QUANTILE_KEYS},
        )

    def normalised(self, values: ArrayLike, mode: str = MEAN_STD) -> NDArray[np.float32]:
        """[..., D] in physical units -> float32 [..., D] for a network."""
        shift, scale = self._affine(mode)
        return ((np.asarray(values, np.float64) - shift) / scale).astype(np.float32)

    def denormalised(self, values: ArrayLike, mode: str = MEAN_STD) -> NDArray[np.float32]:
        """The inverse of `normalised`."""
        shift, scale = self._affine(mode)
        return (np.asarray(values, np.float64) * scale + shift).astype(np.float32)

    def _affine(self, mode: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        if mode == MEAN_STD:
            return self.mean, self.std + EPSILON
        if mode == QUANTILES:  # (x - q01) / (q99 - q01) * 2 - 1, written as shift and scale
            scale = (self.q99 - self.q01 + EPSILON) / 2
            return self.q01 + scale, scale
        raise DatasetError(f"normalisation is {mode!r}; expected '{MEAN_STD}' or '{QUANTILES}'")

    def to_json(self) -> dict[str, Any]:
        """As an entry of LeRobot's ``meta/stats.json``."""
        arrays = {key: getattr(self, key).tolist() for key in ("min", "max", "mean", "std", *QUANTILE_KEYS)}
        return {**arrays, "count": [self.count]}

    @staticmethod
    def from_json(entry: Mapping[str, Any], what: str = "statistics") -> Statistics:
        """Read an entry of LeRobot's ``meta/stats.json`` or of openpi's ``norm_stats.json``.

        openpi keeps neither extremes nor count: they come out as NaN and 0.

        Raises:
            DatasetError: `what` lacks mean, std, q01 or q99, or their lengths differ.
        """
        missing = [key for key in ("mean", "std", "q01", "q99") if key not in entry]
        if missing:
            raise DatasetError(f"{what}: '{missing[0]}' is missing; has {sorted(entry)}")
        arrays = {k: np.asarray(entry[k], np.float64).reshape(-1) for k in entry if k != "count"}
        lengths = {key: len(value) for key, value in arrays.items()}
        if len(set(lengths.values())) != 1:
            raise DatasetError(f"{what}: lengths differ: {lengths}")
        unknown = np.full(len(arrays["mean"]), np.nan)
        count = int(np.asarray(entry.get("count", 0)).reshape(-1)[0])
        keys = ("mean", "std", "min", "max", *QUANTILE_KEYS)
        return Statistics(count=count, **{key: arrays.get(key, unknown) for key in keys})
