"""The MTP layer as an ONNX graph: what the decoder said of a place, and the token that followed, to the token after it.

Shares the decoder's embedding table and head, and has a KV cache of its own. Entry i of a slot takes the hidden state
at position i and the token at position i + 1, and its logits are a guess at the token at i + 2. B rows of S entries:

    input_ids      int64   [B, S]          the tokens that follow the hidden states
    visual, visual_row                     as of the decoder, for image pads among them
    hidden         float32 [B * S, hidden] of the decoder behind its final norm, or `drafted` of the entry before
    position_ids   int64   [B, S]          of the hidden states
    write_index    int64   [B]
    mask           bool    [B, 1, S, L]
    logit_rows     int64   [M]
    past_k.0, past_v.0        compute type [B, kv_heads, L, head_dim]
    logits         float32 [M, vocab]
    drafted        float32 [M, hidden]     stands for the hidden state one position on, where more is drafted
    present_k.0, present_v.0
"""

from __future__ import annotations

import numpy as np

from exaone_ros.model.checkpoint import Checkpoint
from exaone_ros.model.config import SLIDING
from exaone_ros.model.decoder_graph import CacheKind, DecoderLayers, KvWrite, check_kv_write, embed, head
from exaone_ros.model.graph_builder import GraphBuilder, LinearSource, check_compact
from exaone_ros.model.onnx_graph import MAX_OPSET, Graph
from exaone_ros.model.precision import FLOAT32, Precision


def build_mtp(
    checkpoint: Checkpoint,
    context: int,
    opset: int = MAX_OPSET,
    kv_write: KvWrite | None = None,
    precision: Precision = FLOAT32,
    linears: LinearSource | None = None,
    *,
    compact: bool = False,
) -> Graph:
    """Build the graph; arguments as of `decoder_graph.build_decoder`.

    Raises:
        CheckpointError: the checkpoint has no MTP layer, or not all of it.
        ValueError: `kv_write` needs a later opset, or `compact` is asked for in anything but plain float32.
    """
    checkpoint.require_mtp()
    kv_write = check_kv_write(kv_write, opset)
    check_compact(compact, precision, linears)
    c = checkpoint.config.text
    g = GraphBuilder("exaone4_5_mtp", opset, checkpoint, precision, linears)
    ids = g.input("input_ids", np.int64, ["B", "S"])
    visual = g.input("visual", np.float32, ["N", c.hidden])
    visual_row = g.input("visual_row", np.int64, ["B", "S"])
    hidden = g.input("hidden", np.float32, ["R", c.hidden])
    positions = g.input("position_ids", np.int64, ["B", "S"])
    g.input("write_index", np.int64, ["B"])
    mask = g.input("mask", np.bool_, ["B", 1, "S", "L"])
    logit_rows = g.input("logit_rows", np.int64, ["M"])

    embedded = g.rms_norm(embed(g, ids, visual, visual_row, c.hidden), "mtp.pre_fc_norm_embedding.weight", c.rms_eps)
    normed = g.rms_norm(hidden, "mtp.pre_fc_norm_hidden.weight", c.rms_eps)
    joined = g.op("Concat", embedded, normed, axis=-1)
    value = g.high(g.linear(g.low(joined), "mtp.fc", bias=False))
    layers = DecoderLayers(g, c, kv_write, ids, positions, context, compact=compact)
    rope = c.mtp_layer_type == SLIDING or c.sliding_window is None
    value = layers.add(value, "mtp.layers.0.", 0, CacheKind(), mask, rope=rope)
    value = g.rms_norm(g.op("Gather", value, logit_rows, axis=0), "mtp.norm.weight", c.rms_eps)
    g.op("Identity", value, name="drafted")
    head(g, value, c.vocab)
    g.output("drafted", np.float32, ["M", c.hidden])
    layers.declare_caches()
    return g.finish()
