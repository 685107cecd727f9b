"""The vision encoder as an ONNX graph: uint8 patches in, visual tokens out.

Inputs follow `vision_plan.VisionPlan`; R patches, P patches in a complete window:

    patches      uint8   [R, 3 * patch * patch]   rows of `preprocess.patchify` in the order of `patch_index`
    cos, sin     float32 [R, head_dim / 2]
    pad_index    int64   [windows * P]            rows -> padded windows
    unpad_index  int64   [R]                      padded windows -> rows
    key_mask     bool    [windows, 1, 1, P]
    reverse      int64   [tokens]
    visual       float32 [tokens, out_hidden]     the output, in raster order
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import TensorProto

from exaone_ros.model.checkpoint import Checkpoint
from exaone_ros.model.config import VisionConfig
from exaone_ros.model.graph_builder import GraphBuilder, check_compact
from exaone_ros.model.onnx_graph import FUSED_FROM_OPSET, MAX_OPSET, Graph
from exaone_ros.model.precision import FLOAT32, Precision
from exaone_ros.model.preprocess import PreprocessConfig, fold_patch_embedding

RMS_EPS = 1e-6  # fixed in the architecture, not part of the configuration


def build_vision(
    checkpoint: Checkpoint,
    preprocess: PreprocessConfig,
    opset: int = MAX_OPSET,
    precision: Precision = FLOAT32,
    *,
    compact: bool = False,
) -> Graph:
    """Build the graph for images of any size.

    Args:
        checkpoint: with the weights.
        preprocess: whose normalisation is folded into the patch embedding.
        opset: ONNX opset, 18 to 24; below 23 attention, norm and rotation are spelled out.
        precision: types of the arithmetic. The encoder is a twenty-fifth of the model: its weights stay plain.
        compact: queries, keys and values change their layout together: fewer operators, which is faster on a CPU.

    Raises:
        ValueError: `compact` is asked for in anything but float32.
    """
    check_compact(compact, precision)
    c = checkpoint.config.vision
    g = GraphBuilder("exaone4_5_vision", opset, checkpoint, precision)
    patches = g.input("patches", np.uint8, ["rows", c.channels * c.patch**2])
    attention = (_CompactAttention if compact else _Attention)(g, c)
    reverse = g.input("reverse", np.int64, ["tokens"])

    weight, bias = fold_patch_embedding(checkpoint.read("visual.patch_embed.proj.weight"), preprocess)
    pixels = g.op("Cast", patches, to=TensorProto.FLOAT)
    hidden = g.op("Gemm", pixels, g.table("patch_embed.weight", weight), g.table("patch_embed.bias", bias), transB=1)
    for block in range(c.depth):
        prefix = f"visual.blocks.{block}."
        normed = g.rms_norm(hidden, prefix + "norm1.weight", RMS_EPS)
        qkv = g.linear(g.low(normed), prefix + "attn.qkv", bias=True)
        mixed = attention.full(qkv) if block in c.full_attention_blocks else attention.windowed(qkv)
        hidden = g.op("Add", hidden, g.high(g.linear(mixed, prefix + "attn.proj", bias=True)))
        normed = g.rms_norm(hidden, prefix + "norm2.weight", RMS_EPS)
        hidden = g.op("Add", hidden, g.high(g.swiglu(g.low(normed), prefix + "mlp.", bias=True)))

    hidden = g.rms_norm(hidden, "visual.merger.ln_q.weight", RMS_EPS)
    merged = g.reshape(hidden, -1, c.hidden * c.merge**2)
    merged = g.op("Gather", merged, reverse, axis=0)
    merged = _gelu(g, g.high(g.linear(g.low(merged), "visual.merger.mlp.0", bias=True)))
    g.high(g.linear(g.low(merged), "visual.merger.mlp.2", bias=True), name="visual")
    g.output("visual", np.float32, ["tokens", c.out_hidden])
    return g.finish()


class _Attention:
    """From rows of queries, keys and values [R, (heads + 2 * kv_heads) * D] to rows [R, heads * D]; low."""

    def __init__(self, g: GraphBuilder, config: VisionConfig) -> None:
        self._g, self._config = g, config
        self._rope = _Rope(g, config.head_dim)
        self._windows = _Windows(g, config.window_patches)

    def full(self, qkv: str) -> str:
        """All rows see all rows."""
        return self._attend(self._heads_first(self._rotated(qkv), 1, -1), None)

    def windowed(self, qkv: str) -> str:
        """Rows see those of their window."""
        padded = [self._windows.pad(x) for x in self._rotated(qkv)]
        places = self._config.window_patches
        return self._windows.unpad(self._attend(self._heads_first(padded, -1, places), self._windows.mask))

    def _rotated(self, qkv: str) -> list[str]:
        """Queries, keys and values as rows [R, heads * D]."""
        g, c = self._g, self._config
        widths = [c.heads * c.head_dim, c.kv_heads * c.head_dim]
        qk, v = g.split(qkv, [sum(widths), widths[1]], axis=-1)
        return [*g.split(g.low(self._rope.apply(g.high(qk), c.heads + c.kv_heads)), widths, axis=-1), v]

    def _heads_first(self, rows: Sequence[str], batch: int, length: int) -> list[str]:
        """Each of queries, keys and values [batch * length, heads * D] as [batch, heads, length, D]."""
        c = self._config
        heads = (c.heads, c.kv_heads, c.kv_heads)
        return [_heads_first(self._g, x, (batch, length, n, c.head_dim)) for x, n in zip(rows, heads, strict=True)]

    def _attend(self, heads_first: Sequence[str], mask: str | None) -> str:
        """Rows [batch * length, heads * D] of queries, keys and values [batch, heads, length, D]."""
        c, (q, k, v) = self._config, heads_first
        return _rows(self._g, self._g.attention(q, k, v, mask, c.heads, c.kv_heads, c.head_dim), c.hidden)


class _CompactAttention:
    """The same with one change of layout for queries, keys and values together; float32."""

    def __init__(self, g: GraphBuilder, config: VisionConfig) -> None:
        self._g, self._config = g, config
        half, self._places = config.head_dim // 2, config.window_patches
        angles = [g.input(name, np.float32, ["rows", half]) for name in ("cos", "sin")]
        self._windows = _Windows(g, self._places)
        self._angles = [self._batched(angle, (1, -1, half)) for angle in angles]
        self._window_angles = [self._batched(self._windows.pad(angle), (-1, self._places, half)) for angle in angles]

    def full(self, qkv: str) -> str:
        """As `_Attention.full`."""
        return self._attend(qkv, (1, -1), self._angles, None)

    def windowed(self, qkv: str) -> str:
        """As `_Attention.windowed`."""
        padded = self._windows.pad(qkv)
        mixed = self._attend(padded, (-1, self._places), self._window_angles, self._windows.mask)
        return self._windows.unpad(mixed)

    def _batched(self, angle: str, shape: tuple[int, int, int]) -> str:
        """[rows, D / 2] as [batch, length, D / 2]; spelled out, the tables broadcast over heads."""
        batched = self._g.reshape(angle, *shape)
        return batched if self._g.opset >= FUSED_FROM_OPSET else self._g.op("Unsqueeze", batched, self._g.ints(1))

    def _attend(self, qkv: str, batch_and_length: tuple[int, int], angles: Sequence[str], mask: str | None) -> str:
        g, c = self._g, self._config
        heads = [c.heads, c.kv_heads, c.kv_heads]
        together = _heads_first(g, qkv, (*batch_and_length, sum(heads), c.head_dim))
        q, k, v = g.split(together, heads, axis=1)
        q, k = (self._rotated(x, *angles) for x in (q, k))
        return _rows(g, g.attention(q, k, v, mask, c.heads, c.kv_heads, c.head_dim), c.hidden)

    def _rotated(self, value: str, cos: str, sin: str) -> str:
        g = self._g
        return g.op("RotaryEmbedding", value, cos, sin) if g.opset >= FUSED_FROM_OPSET else g.rotate(value, cos, sin)


class _Rope:
    """Rotates heads that lie side by side in rows [R, heads * D], all by the angles of their row."""

    def __init__(self, g: GraphBuilder, head_dim: int) -> None:
        self._g, self._head_dim = g, head_dim
        fused = g.opset >= FUSED_FROM_OPSET
        # RotaryEmbedding wants [batch, rows, D / 2]; spelled out, the tables broadcast over [rows, heads, D / 2].
        self._cos, self._sin = (
            g.op("Unsqueeze", g.input(name, np.float32, ["rows", head_dim // 2]), g.ints(0 if fused else 1))
            for name in ("cos", "sin")
        )

    def apply(self, value: str, heads: int) -> str:
        g, width = self._g, heads * self._head_dim
        if g.opset >= FUSED_FROM_OPSET:
            rotated = g.op("RotaryEmbedding", g.reshape(value, 1, -1, width), self._cos, self._sin, num_heads=heads)
        else:
            rotated = g.rotate(g.reshape(value, -1, heads, self._head_dim), self._cos, self._sin)
        return g.reshape(rotated, -1, width)


class _Windows:
    """Takes rows into padded windows and back."""

    def __init__(self, g: GraphBuilder, window_patches: int) -> None:
        self._g = g
        self._pad_index = g.input("pad_index", np.int64, ["places"])
        self._unpad_index = g.input("unpad_index", np.int64, ["rows"])
        self.mask = g.input("key_mask", np.bool_, ["windows", 1, 1, window_patches])
        if g.opset >= FUSED_FROM_OPSET:
            self.mask = g.op("Expand", self.mask, g.ints(1, 1, window_patches, 1))

    def pad(self, rows: str) -> str:
        return self._g.op("Gather", rows, self._pad_index, axis=0)

    def unpad(self, places: str) -> str:
        return self._g.op("Gather", places, self._unpad_index, axis=0)


def _heads_first(g: GraphBuilder, rows: str, shape: tuple[int, int, int, int]) -> str:
    """Rows [batch * length, heads * D] as [batch, heads, length, D]; `shape` is batch, length, heads, D."""
    return g.op("Transpose", g.reshape(rows, *shape), perm=[0, 2, 1, 3])


def _rows(g: GraphBuilder, heads_first: str, width: int) -> str:
    """[batch, heads, length, D] as rows [batch * length, heads * D]."""
    return g.reshape(g.op("Transpose", heads_first, perm=[0, 2, 1, 3]), -1, width)


def _gelu(g: GraphBuilder, value: str) -> str:
    """Exact GELU; an operator of its own from opset 20 on."""
    if g.opset >= 20:
        return g.op("Gelu", value)
    erf = g.op("Erf", g.op("Div", value, g.number(2**0.5)))
    return g.op("Mul", g.op("Mul", value, g.number(0.5)), g.op("Add", erf, g.number(1.0)))
