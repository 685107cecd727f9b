"""The vision encoder as an ONNX graph: uint8 patches in, visual tokens out.

Inputs follow `vision_plan.VisionPlan`; R = windows * P rows, P patches in a complete window:

    patches   uint8   [R, 3 * patch * patch]   rows of `preprocess.patchify` in the order of `patch_index`
    cos, sin  float32 [R, head_dim / 2]
    key_mask  bool    [windows, 1, 1, P]
    reverse   int64   [tokens]
    visual    float32 [tokens, out_hidden]     the output, in raster order
"""

from __future__ import annotations

import numpy as np

from exaone_ros.model.checkpoint import Checkpoint
from exaone_ros.model.onnx_graph import FUSED_FROM_OPSET, MAX_OPSET, Graph, GraphBuilder
from exaone_ros.model.preprocess import PreprocessConfig, fold_patch_embedding

RMS_EPS = 1e-6  # fixed in the architecture, not part of the configuration


def build_vision(checkpoint: Checkpoint, preprocess: PreprocessConfig, opset: int = MAX_OPSET) -> Graph:
    """Build the graph for images of any size.

    Args:
        checkpoint: with the weights.
        preprocess: whose normalisation is folded into the patch embedding.
        opset: ONNX opset, 18 to 24; below 23 attention, norm and rotation are spelled out.
    """
    c = checkpoint.config.vision
    g = GraphBuilder("exaone4_5_vision", opset, checkpoint)
    patches = g.input("patches", np.uint8, ["rows", c.channels * c.patch**2])
    cos = g.op("Unsqueeze", g.input("cos", np.float32, ["rows", c.head_dim // 2]), g.ints(1))
    sin = g.op("Unsqueeze", g.input("sin", np.float32, ["rows", c.head_dim // 2]), g.ints(1))
    window_mask = g.input("key_mask", np.bool_, ["windows", 1, 1, c.window_patches])
    reverse = g.input("reverse", np.int64, ["tokens"])
    full_mask = g.reshape(window_mask, 1, 1, 1, -1)
    if opset >= FUSED_FROM_OPSET:
        rows = g.size_of(patches, 0, 1)
        full_mask = g.op("Expand", full_mask, g.op("Concat", g.ints(1, 1), rows, g.ints(1), axis=0))
        window_mask = g.op("Expand", window_mask, g.ints(1, 1, c.window_patches, 1))

    weight, bias = fold_patch_embedding(checkpoint.read("visual.patch_embed.proj.weight"), preprocess)
    pixels = g.op("Cast", patches, to=1)  # TensorProto.FLOAT
    hidden = g.op("Gemm", pixels, g.table("patch_embed.weight", weight), g.table("patch_embed.bias", bias), transB=1)
    for block in range(c.depth):
        full = block in c.full_attention_blocks
        prefix = f"visual.blocks.{block}."
        normed = g.rms_norm(hidden, prefix + "norm1.weight", RMS_EPS)
        q, k, v = g.split(
            g.linear(normed, prefix + "attn.qkv", bias=True),
            [c.heads * c.head_dim, c.kv_heads * c.head_dim, c.kv_heads * c.head_dim],
            axis=-1,
        )
        q = g.rotate(g.reshape(q, -1, c.heads, c.head_dim), cos, sin)
        k = g.rotate(g.reshape(k, -1, c.kv_heads, c.head_dim), cos, sin)
        # A full block is one sequence of all rows, a window block a batch of windows.
        batch, length = (1, -1) if full else (-1, c.window_patches)
        q, k, v = [
            g.op("Transpose", g.reshape(x, batch, length, n, c.head_dim), perm=[0, 2, 1, 3])
            for x, n in ((q, c.heads), (k, c.kv_heads), (v, c.kv_heads))
        ]
        mixed = g.attention(q, k, v, full_mask if full else window_mask, c.heads, c.kv_heads, c.head_dim)
        mixed = g.reshape(g.op("Transpose", mixed, perm=[0, 2, 1, 3]), -1, c.hidden)
        hidden = g.op("Add", hidden, g.linear(mixed, prefix + "attn.proj", bias=True))
        normed = g.rms_norm(hidden, prefix + "norm2.weight", RMS_EPS)
        hidden = g.op("Add", hidden, g.swiglu(normed, prefix + "mlp.", bias=True))

    hidden = g.rms_norm(hidden, "visual.merger.ln_q.weight", RMS_EPS)
    merged = g.reshape(hidden, -1, c.hidden * c.merge**2)
    merged = g.op("Gather", merged, reverse, axis=0)  # drops the padding before the large MLP
    merged = _gelu(g, g.linear(merged, "visual.merger.mlp.0", bias=True))
    last = [merged, g.weight("visual.merger.mlp.2.weight"), g.weight("visual.merger.mlp.2.bias")]
    g.op("Gemm", *last, transB=1, name="visual")
    g.output("visual", np.float32, ["tokens", c.out_hidden])
    return g.finish()


def _gelu(g: GraphBuilder, value: str) -> str:
    """Exact GELU; an operator of its own from opset 20 on."""
    if g.opset >= 20:
        return g.op("Gelu", value)
    erf = g.op("Erf", g.op("Div", value, g.number(2**0.5)))
    return g.op("Mul", g.op("Mul", value, g.number(0.5)), g.op("Add", erf, g.number(1.0)))
