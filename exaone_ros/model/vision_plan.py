"""Where every patch of an image goes in the vision encoder: the part of window attention that depends on the data.

The encoder attends inside windows of `window_px` in most blocks. The plan orders the patches by window and says where
each goes when windows cut by the border are padded to their full size, so that the graph has no data-dependent shape:
a window block is one batched attention [windows, heads, P, P] under a key mask. Only attention is padded; everything
else, and the attention of full blocks, works on the real patches.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exaone_ros.model.config import VisionConfig


@dataclass(frozen=True)
class VisionPlan:
    """The plan for one image size. Arrays are read-only. R patches, P patches in a complete window.

    Attributes:
        grid: (height, width) in visual tokens.
        patch_index: int64 [R], for each row of the encoder its patch, counted in merge order (the order of
            `preprocess.patchify`).
        pad_index: int64 [windows * P], for each place in the padded windows its row; any row where it is padding.
        unpad_index: int64 [R], for each row its place in the padded windows.
        key_mask: bool [windows, 1, 1, P], True where the place is no padding.
        cos, sin: float32 [R, head_dim / 2], 2-D rotary embedding of each row.
        reverse: int64 [tokens], for each visual token in raster order its place among the merged rows.
    """

    grid: tuple[int, int]
    patch_index: NDArray[np.int64]
    pad_index: NDArray[np.int64]
    unpad_index: NDArray[np.int64]
    key_mask: NDArray[np.bool_]
    cos: NDArray[np.float32]
    sin: NDArray[np.float32]
    reverse: NDArray[np.int64]

    @property
    def tokens(self) -> int:
        return self.grid[0] * self.grid[1]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All arrays by their names."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "grid"}

    def feeds(self, patches: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """Inputs of the vision graph for patches in merge order."""
        arrays = self.arrays()
        return {"patches": patches[arrays.pop("patch_index")], **arrays}


@lru_cache(maxsize=64)
def vision_plan(config: VisionConfig, height: int, width: int) -> VisionPlan:
    """The plan for an image of height x width visual tokens; computed once per size.

    The order is that of `transformers`' get_vision_window_index: windows in raster order, tokens in raster order
    inside a window, the patches of a token together. A window cut by the border has its tokens first, padding last.
    """
    side, patches_per_token = config.window_tokens, config.merge**2
    rows, columns = -(-height // side), -(-width // side)
    token = np.full((rows * side, columns * side), -1, np.int64)
    token[:height, :width] = np.arange(height * width).reshape(height, width)
    token = token.reshape(rows, side, columns, side).transpose(0, 2, 1, 3).reshape(rows * columns, side * side)
    token = np.take_along_axis(token, np.argsort(token < 0, axis=1, kind="stable"), axis=1)
    real = token >= 0

    in_window_order = token[real]
    patch_index = (in_window_order[:, None] * patches_per_token + np.arange(patches_per_token)).reshape(-1)
    place_is_real = np.repeat(real, patches_per_token, axis=1)
    unpad_index = np.flatnonzero(place_is_real)
    pad_index = np.zeros(place_is_real.size, np.int64)
    pad_index[unpad_index] = np.arange(len(unpad_index))

    angles = _patch_angles(config, height, width)[patch_index]
    plan = VisionPlan(
        grid=(height, width),
        patch_index=patch_index,
        pad_index=pad_index,
        unpad_index=unpad_index,
        key_mask=place_is_real[:, None, None, :],
        cos=np.cos(angles),
        sin=np.sin(angles),
        reverse=np.argsort(in_window_order),
    )
    for array in plan.arrays().values():
        array.setflags(write=False)
    return plan


def _patch_angles(config: VisionConfig, height: int, width: int) -> NDArray[np.float32]:
    """Rotation angles of all patches in merge order, float32 [patches, head_dim / 2]: rows first, then columns."""
    merge = config.merge
    y, x = np.meshgrid(np.arange(height * merge), np.arange(width * merge), indexing="ij")
    in_merge_order = [
        axis.reshape(height, merge, width, merge).transpose(0, 2, 1, 3).reshape(-1).astype(np.float32)
        for axis in (y, x)
    ]
    half = config.head_dim // 2
    exponents = np.arange(0, half, 2, dtype=np.float32) / np.float32(half)
    frequencies = (1.0 / np.power(np.float32(config.rope_theta), exponents)).astype(np.float32)
    return np.concatenate([np.outer(axis, frequencies) for axis in in_merge_order], axis=1).astype(np.float32)
