"""Where every patch of an image goes in the vision encoder: the part of window attention that depends on the data.

The encoder attends inside windows of `window_px` in most blocks. The plan orders the patches by window and pads each
window to its full size, so that the graph has no data-dependent shape: a window block is one batched attention
[windows, heads, P, P] under a key mask, a full block sees all rows under the same mask laid flat.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from exaone_ros.model.config import VisionConfig


@dataclass(frozen=True)
class VisionPlan:
    """The plan for one image size. Arrays are read-only. R = windows * P rows, P patches in a complete window.

    Attributes:
        grid: (height, width) in visual tokens.
        patch_index: int64 [R], for each row the patch that stands there, counted in merge order (the order of
            `preprocess.patchify`); 0 where the row is padding.
        key_mask: bool [windows, 1, 1, P], True where the row holds a patch.
        cos, sin: float32 [R, head_dim / 2], 2-D rotary embedding of each row.
        reverse: int64 [tokens], for each visual token in raster order its place among the merged rows.
    """

    grid: tuple[int, int]
    patch_index: NDArray[np.int64]
    key_mask: NDArray[np.bool_]
    cos: NDArray[np.float32]
    sin: NDArray[np.float32]
    reverse: NDArray[np.int64]

    @property
    def tokens(self) -> int:
        return self.grid[0] * self.grid[1]


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

    first_patch = np.where(real, token, 0) * patches_per_token
    patch_index = (first_patch[..., None] + np.arange(patches_per_token)).reshape(-1)
    key_mask = np.repeat(real, patches_per_token, axis=1)[:, None, None, :]
    reverse = np.empty(height * width, np.int64)
    reverse[token[real]] = np.flatnonzero(real.reshape(-1))

    angles = _patch_angles(config, height, width)[patch_index]
    plan = VisionPlan((height, width), patch_index, key_mask, np.cos(angles), np.sin(angles), reverse)
    for array in (plan.patch_index, plan.key_mask, plan.cos, plan.sin, plan.reverse):
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
