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

import numpy as np
from onnx import TensorProto

from exaone_ros.model.checkpoint import Checkpoint
from exaone_ros.model.graph_builder import GraphBuilder
from exaone_ros.model.onnx_graph import FUSED_FROM_OPSET, MAX_OPSET, Graph
from exaone_ros.model.precision import FLOAT32, Precision
from exaone_ros.model.preprocess import PreprocessConfig, fold_patch_embedding

RMS_EPS = 1e-6  # fixed in the architecture, not part of the configuration


def build_vision(
    checkpoint: Checkpoint, preprocess: PreprocessConfig, opset: int = MAX_OPSET, precision: Precision = FLOAT32
) -> Graph:
    """Build the graph for images of any size.

    Args:
        checkpoint: with the weights.
        preprocess: whose normalisation is folded into the patch embedding.
        opset: ONNX opset, 18 to 24; below 23 attention, norm and rotation are spelled out.
        precision: types of the arithmetic. The encoder is a twenty-fifth of the model: its weights stay plain.
    """
    c = checkpoint.config.vision
    g = GraphBuilder("exaone4_5_vision", opset, checkpoint, precision)
    patches = g.input("patches", np.uint8, ["rows", c.channels * c.patch**2])
    rope = _Rope(g, c.head_dim)
    windows = _Windows(g, c.window_patches)
    reverse = g.input("reverse", np.int64, ["tokens"])
    heads = (c.heads, c.kv_heads, c.kv_heads)

    weight, bias = fold_patch_embedding(checkpoint.read("visual.patch_embed.proj.weight"), preprocess)
    pixels = g.op("Cast", patches, to=TensorProto.FLOAT)
    hidden = g.op("Gemm", pixels, g.table("patch_embed.weight", weight), g.table("patch_embed.bias", bias), transB=1)
    for block in range(c.depth):
        prefix = f"visual.blocks.{block}."
        normed = g.rms_norm(hidden, prefix + "norm1.weight", RMS_EPS)
        widths = [c.heads * c.head_dim, c.kv_heads * c.head_dim]
        qkv = g.linear(g.low(normed), prefix + "attn.qkv", bias=True)
        qk, v = g.split(qkv, [sum(widths), widths[1]], axis=-1)
        q, k = g.split(g.low(rope.apply(g.high(qk), c.heads + c.kv_heads)), widths, axis=-1)
        if block in c.full_attention_blocks:
            q, k, v = (_heads_first(g, x, (1, -1, n, c.head_dim)) for x, n in zip((q, k, v), heads, strict=True))
            mixed = _rows(g, g.attention(q, k, v, None, c.heads, c.kv_heads, c.head_dim), c.hidden)
        else:
            q, k, v = (
                _heads_first(g, windows.pad(x), (-1, c.window_patches, n, c.head_dim))
                for x, n in zip((q, k, v), heads, strict=True)
            )
            mixed = g.attention(q, k, v, windows.mask, c.heads, c.kv_heads, c.head_dim)
            mixed = windows.unpad(_rows(g, mixed, c.hidden))
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
