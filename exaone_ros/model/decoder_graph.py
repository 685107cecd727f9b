"""The decoder as an ONNX graph: tokens appended to KV caches in, logits out. Prefill and decode are the same graph.

B rows of S tokens each, caches of L positions:

    input_ids      int64   [B, S]
    visual         float32 [N, hidden]     visual tokens of this call; one row of anything when there are none
    visual_row     int64   [B, S]          which row of `visual` stands in for the token; -1 = the token's own embedding
    position_ids   int64   [B, S]          below `context`
    write_index    int64   [B]             where in the cache the first of the S tokens goes; it and S must fit into L
    mask_global    bool    [B, 1, S, L]    True where a query may look, in layers with global attention
    mask_local     bool    [B, 1, S, L]    the same in layers with a sliding window
    write_index_local  int64 [B]           only with `ring`: write_index of layers with a sliding window
    logit_rows     int64   [M]             for which of the B * S tokens logits are wanted
    past_k.{l}, past_v.{l}        compute type [B, kv_heads, L, head_dim]
    logits         float32 [M, vocab]
    hidden         float32 [B * S, hidden] behind the final norm; only where asked for
    present_k.{l}, present_v.{l}  the caches with the new tokens written; may be bound to the memory of past_*

With `ring`, the caches and the mask of layers with a sliding window have W positions in place of L.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from exaone_ros.model.checkpoint import Checkpoint
from exaone_ros.model.config import TextConfig
from exaone_ros.model.graph_builder import Dim, GraphBuilder, LinearSource, check_compact
from exaone_ros.model.onnx_graph import FUSED_FROM_OPSET, MAX_OPSET, Graph
from exaone_ros.model.precision import FLOAT32, Precision


class KvWrite(Enum):
    """How new keys and values get into the cache."""

    TENSOR_SCATTER = "tensor_scatter"
    """The operator made for it, from opset 24 on; in place where the memory is shared."""
    SCATTER_ELEMENTS = "scatter_elements"
    """For older runtimes; the index of every element is spelled out."""


TENSOR_SCATTER_FROM_OPSET = 24


def default_kv_write(opset: int) -> KvWrite:
    """The best way to write the cache that an opset has."""
    return KvWrite.TENSOR_SCATTER if opset >= TENSOR_SCATTER_FROM_OPSET else KvWrite.SCATTER_ELEMENTS


def check_kv_write(kv_write: KvWrite | None, opset: int) -> KvWrite:
    """What is asked for, or by default the best that the opset has.

    Raises:
        ValueError: it needs a later opset.
    """
    kv_write = kv_write or default_kv_write(opset)
    if kv_write is KvWrite.TENSOR_SCATTER and opset < TENSOR_SCATTER_FROM_OPSET:
        raise ValueError(f"opset is {opset}; TensorScatter needs {TENSOR_SCATTER_FROM_OPSET}: use SCATTER_ELEMENTS")
    return kv_write


def build_decoder(
    checkpoint: Checkpoint,
    context: int,
    opset: int = MAX_OPSET,
    kv_write: KvWrite | None = None,
    precision: Precision = FLOAT32,
    linears: LinearSource | None = None,
    *,
    fixed_capacity: bool = False,
    hidden_output: bool = False,
    compact: bool = False,
    ring: int | None = None,
) -> Graph:
    """Build the graph.

    Args:
        checkpoint: with the weights.
        context: positions that the rotary tables cover; caches may be shorter, not longer.
        opset: ONNX opset, 18 to 24; below 23 attention, norm and rotation are spelled out.
        kv_write: default: the best that the opset has.
        precision: types of the arithmetic and of the caches.
        linears: where the quantised weights of the layers come from; None: all are plain.
        hidden_output: give out `hidden` too, which the MTP graph reads.
        fixed_capacity: caches are exactly `context` long. TensorRT's TensorScatter takes no other.
        compact: queries, keys and values come from one product: fewer operators, which is faster on a CPU.
        ring: positions that the caches of sliding-window layers have where that is not as many as the others'; only
            with `fixed_capacity` does the number matter.

    Raises:
        ValueError: `kv_write` needs a later opset, or `compact` is asked for in anything but plain float32.
    """
    kv_write = check_kv_write(kv_write, opset)
    check_compact(compact, precision, linears)
    c = checkpoint.config.text
    g = GraphBuilder("exaone4_5_decoder", opset, checkpoint, precision, linears)
    ids = g.input("input_ids", np.int64, ["B", "S"])
    visual = g.input("visual", np.float32, ["N", c.hidden])
    visual_row = g.input("visual_row", np.int64, ["B", "S"])
    positions = g.input("position_ids", np.int64, ["B", "S"])
    kinds = {c.is_sliding(layer) for layer in range(c.layers)}
    capacity: Dim = context if fixed_capacity else "L"
    everywhere = CacheKind("write_index", capacity)
    local = everywhere
    if ring is not None:
        local = CacheKind("write_index_local", ring if fixed_capacity else "W")
    caches = {kind: cache for kind, cache in ((False, everywhere), (True, local)) if kind in kinds}
    for index in dict.fromkeys(cache.write_index for cache in caches.values()):
        g.input(index, np.int64, ["B"])
    masks = {
        kind: g.input(name, np.bool_, ["B", 1, "S", caches[kind].capacity])
        for kind, name in ((True, "mask_local"), (False, "mask_global"))
        if kind in kinds
    }
    logit_rows = g.input("logit_rows", np.int64, ["M"])

    hidden = embed(g, ids, visual, visual_row, c.hidden)
    layers = DecoderLayers(g, c, kv_write, ids, positions, context, compact=compact)
    # Behind the attention of the last layer, only the tokens whose logits are wanted go on: of a prompt, few or none.
    early = compact and not hidden_output
    for layer in range(c.layers):
        kind, prefix = c.is_sliding(layer), f"text.layers.{layer}."
        kept = logit_rows if early and layer == c.layers - 1 else None
        hidden = layers.add(hidden, prefix, layer, caches[kind], masks[kind], rope=c.has_rope(layer), kept=kept)

    if hidden_output:
        hidden = g.rms_norm(hidden, "text.norm.weight", c.rms_eps)
        g.op("Identity", hidden, name="hidden")
        g.output("hidden", np.float32, ["R", c.hidden])
        hidden = g.op("Gather", hidden, logit_rows, axis=0)
    else:
        hidden = hidden if early else g.op("Gather", hidden, logit_rows, axis=0)
        hidden = g.rms_norm(hidden, "text.norm.weight", c.rms_eps)
    head(g, hidden, c.vocab)
    layers.declare_caches()
    return g.finish()


def head(g: GraphBuilder, hidden: str, vocab: int) -> None:
    """The output `logits` float32 [M, vocab] of normed hidden states [M, hidden]."""
    # The head stays plain whatever the layers are: an error in it is an error in the answer.
    g.high(g.op("Gemm", g.low(hidden), g.low_weight("lm_head.weight"), transB=1), name="logits")
    g.output("logits", np.float32, ["M", vocab])


@dataclass(frozen=True)
class CacheKind:
    """How the caches of some layers are laid out.

    Attributes:
        write_index: the input int64 [B] with where the first of the S tokens goes.
        capacity: positions, a number or the name of the dimension.
    """

    write_index: str = "write_index"
    capacity: Dim = "L"


class DecoderLayers:
    """Decoder layers over KV caches, one after the other.

    Args:
        g: takes the nodes.
        config: of the decoder.
        kv_write: how caches are written.
        ids: int64 [B, S], for its shape.
        positions: int64 [B, S].
        context: positions that the rotary tables cover.
        compact: queries, keys and values come from one product; plain float32 only.
    """

    def __init__(
        self,
        g: GraphBuilder,
        config: TextConfig,
        kv_write: KvWrite,
        ids: str,
        positions: str,
        context: int,
        *,
        compact: bool = False,
    ) -> None:
        self._g, self._config, self._compact = g, config, compact
        self._batch_and_length = g.op("Shape", ids)
        self._rope = _Rope(g, *config.rope.tables(config.head_dim, context), positions)
        self._kv_write, self._ids = kv_write, ids
        self._writers: dict[str, _Cache] = {}
        self._caches: dict[str, list[Dim]] = {}

    def add(
        self, hidden: str, prefix: str, cache: int, kind: CacheKind, mask: str, *, rope: bool, kept: str | None = None
    ) -> str:
        """Add the layer whose weights begin with `prefix`; its caches get the number `cache`.

        Args:
            hidden: float32 [B * S, hidden].
            prefix: of the weights' names, with the dot.
            cache: number of its caches.
            kind: of them.
            mask: bool [B, 1, S, L], L being their capacity.
            rope: False for a layer without positions.
            kept: int64 [M], which rows go on behind the attention; None: all.

        Returns:
            float32 [B * S, hidden], or [M, hidden] of those kept.
        """
        g, c = self._g, self._config
        attention = prefix + "self_attn."
        q, k, v = (self._joined if self._compact else self._separate)(hidden, attention, rope=rope)
        keys, values = (self._cached(f"{name}.{cache}", kind, new) for name, new in (("k", k), ("v", v)))
        mixed = g.attention(q, keys, values, mask, c.heads, c.kv_heads, c.head_dim)
        mixed = g.reshape(g.op("Transpose", mixed, perm=[0, 2, 1, 3]), -1, c.heads * c.head_dim)
        if kept is not None:
            mixed, hidden = (g.op("Gather", x, kept, axis=0) for x in (mixed, hidden))
        # Post-norm: the norm follows the sublayer, inside the residual branch.
        mixed = g.high(g.linear(mixed, attention + "o_proj", bias=False))
        mixed = g.rms_norm(mixed, prefix + "post_attention_layernorm.weight", c.rms_eps)
        hidden = g.op("Add", hidden, mixed)
        fed = g.high(g.swiglu(g.low(hidden), prefix + "mlp.", bias=False))
        return g.op("Add", hidden, g.rms_norm(fed, prefix + "post_feedforward_layernorm.weight", c.rms_eps))

    def _separate(self, hidden: str, prefix: str, *, rope: bool) -> tuple[str, str, str]:
        """Queries, keys and values [B, heads, S, D] of hidden states [B * S, hidden]; low."""
        g, c = self._g, self._config
        heads_first = []
        for name, heads in (("q", c.heads), ("k", c.kv_heads), ("v", c.kv_heads)):
            projected = g.linear(g.low(hidden), f"{prefix}{name}_proj", bias=False)
            value = g.reshape(projected, self._batch_and_length, heads, c.head_dim)
            if name == "v":
                heads_first.append(g.op("Transpose", value, perm=[0, 2, 1, 3]))
                continue
            value = g.rms_norm(g.high(value), f"{prefix}{name}_norm.weight", c.rms_eps)
            value = g.op("Transpose", value, perm=[0, 2, 1, 3])
            heads_first.append(g.low(self._rope.apply(value) if rope else value))
        q, k, v = heads_first
        return q, k, v

    def _joined(self, hidden: str, prefix: str, *, rope: bool) -> tuple[str, str, str]:
        """The same from one product and one change of layout; all float32."""
        g, c = self._g, self._config
        projected = g.joined_linear(hidden, prefix + "qkv_proj", [f"{prefix}{name}_proj" for name in "qkv"])
        heads = g.reshape(projected, self._batch_and_length, c.heads + 2 * c.kv_heads, c.head_dim)
        heads = g.op("Transpose", heads, perm=[0, 2, 1, 3])
        q, k, v = g.split(heads, [c.heads, c.kv_heads, c.kv_heads], axis=1)
        q, k = (g.rms_norm(x, f"{prefix}{name}_norm.weight", c.rms_eps) for name, x in (("q", q), ("k", k)))
        return (self._rope.apply(q), self._rope.apply(k), v) if rope else (q, k, v)

    def _cached(self, name: str, kind: CacheKind, new: str) -> str:
        g, c = self._g, self._config
        shape: list[Dim] = ["B", c.kv_heads, kind.capacity, c.head_dim]
        past = g.input(f"past_{name}", g.precision.compute, shape)
        self._caches[f"present_{name}"] = shape
        if kind.write_index not in self._writers:
            self._writers[kind.write_index] = _Cache(g, self._kv_write, kind.write_index, self._ids)
        return self._writers[kind.write_index].write(past, new, f"present_{name}")

    def declare_caches(self) -> None:
        """Make the written caches outputs of the graph; once, behind the other outputs."""
        for name, shape in self._caches.items():
            self._g.output(name, self._g.precision.compute, shape)


def embed(g: GraphBuilder, ids: str, visual: str, visual_row: str, width: int) -> str:
    """Embeddings of all tokens [B * S, hidden], with visual tokens in place of image pads."""
    words = g.high(g.op("Gather", g.low_weight("text.embed_tokens.weight"), ids))
    seen = g.op("Gather", visual, g.op("Max", visual_row, g.integer(0)))
    is_visual = g.op("Unsqueeze", g.op("GreaterOrEqual", visual_row, g.integer(0)), g.ints(-1))
    return g.reshape(g.op("Where", is_visual, seen, words), -1, width)


class _Rope:
    """Rotary embedding of [B, heads, S, D] by position."""

    def __init__(self, g: GraphBuilder, cos: np.ndarray, sin: np.ndarray, positions: str) -> None:
        self._g, self._positions = g, positions
        self._cos, self._sin = g.table("rope_cos", cos), g.table("rope_sin", sin)
        if g.opset < FUSED_FROM_OPSET:
            self._cos, self._sin = (
                g.op("Unsqueeze", g.op("Gather", table, positions), g.ints(1)) for table in (self._cos, self._sin)
            )

    def apply(self, value: str) -> str:
        if self._g.opset < FUSED_FROM_OPSET:
            return self._g.rotate(value, self._cos, self._sin)
        return self._g.op("RotaryEmbedding", value, self._cos, self._sin, self._positions)


class _Cache:
    """Writes new keys or values [B, kv_heads, S, D] into a cache [B, kv_heads, L, D]."""

    def __init__(self, g: GraphBuilder, kv_write: KvWrite, write_index: str, ids: str) -> None:
        self._g, self._kv_write, self._write_index = g, kv_write, write_index
        if kv_write is KvWrite.SCATTER_ELEMENTS:
            length = g.op("Squeeze", g.size_of(ids, 1, 2), g.ints(0))
            steps = g.op("Unsqueeze", g.op("Range", g.integer(0), length, g.integer(1)), g.ints(0))
            places = g.op("Add", g.op("Unsqueeze", write_index, g.ints(1)), steps)
            self._places = g.op("Unsqueeze", places, g.ints(1, 3))  # [B, 1, S, 1]

    def write(self, past: str, new: str, name: str) -> str:
        g = self._g
        if self._kv_write is KvWrite.TENSOR_SCATTER:
            return g.op("TensorScatter", past, new, self._write_index, name=name, axis=-2)
        index = g.op("Expand", self._places, g.op("Shape", new))
        return g.op("ScatterElements", past, index, new, name=name, axis=2)
