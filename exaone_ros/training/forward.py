"""The training forward: many questions on one image, computed once, over the parameters of the Hugging Face model.

The mathematics is that of `Exaone4_5_ForConditionalGeneration` (a test holds both together); what differs is the
layout. The tokens before the image are the same for all images and run with batch 1; the image and its questions
follow; the questions lie packed behind each other, each sees the prefix and itself only, and its positions go on from
the prefix. So one packed row trains exactly what single-question inference computes. Attention is written out, because
the backward of the fused CPU kernel is two to four times slower at these head sizes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from transformers import Exaone4_5_ForConditionalGeneration
from transformers.vision_utils import get_vision_position_ids, get_vision_window_index

from exaone_ros.training.model import MERGE, PATCH, PATCH_VALUES, TEMPORAL, TOKEN_PX
from exaone_ros.training.tokenizer import IMAGE_MEAN, IMAGE_STD

VISION_EPS = 1e-6
FORBIDDEN = -1e4
"""Added to the score of a key that a query must not see: large enough in bfloat16, and finite."""


@dataclass(frozen=True)
class GridPlan:
    """How the patches of one image size are ordered: window by window, windows of equal length side by side.

    Attributes:
        grid: (height, width) in visual tokens.
        order: int64 [n] raster index of each visual token in window order.
        reverse: int64 [n] the inverse.
        windows: (number of windows, patches in each), in order.
        position: int64 [4 n, 2] row and column of each patch.
    """

    grid: tuple[int, int]
    order: Tensor
    reverse: Tensor
    windows: tuple[tuple[int, int], ...]
    position: Tensor


@lru_cache(maxsize=32)
def plan_grid(rows: int, columns: int, window_px: int) -> GridPlan:
    """Plan an image of rows x columns visual tokens."""
    grid = torch.tensor([[1, rows * MERGE, columns * MERGE]])
    index, bounds = get_vision_window_index(grid, spatial_merge_size=MERGE, window_size=window_px, patch_size=PATCH)
    bounds = torch.unique_consecutive(bounds)
    lengths = (bounds[1:] - bounds[:-1]).tolist()
    pieces = index.split([length // MERGE**2 for length in lengths])
    by_length: dict[int, list[Tensor]] = {}
    for length, piece in zip(lengths, pieces, strict=True):
        by_length.setdefault(length, []).append(piece)
    order = torch.cat([piece for group in by_length.values() for piece in group])
    position = torch.as_tensor(get_vision_position_ids(grid, MERGE))
    position = position.reshape(-1, MERGE**2, 2)[order].reshape(-1, 2)
    windows = tuple((len(group), length) for length, group in by_length.items())
    return GridPlan((rows, columns), order, torch.argsort(order), windows, position)


def rotate_half(x: Tensor) -> Tensor:
    """(a, b) -> (-b, a) for the halves of the last axis."""
    first, second = x.chunk(2, -1)
    return torch.cat((-second, first), -1)


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotary position embedding."""
    return x * cosine + rotate_half(x) * sine


class RmsNorm(torch.autograd.Function):
    """RMS norm with a backward of few passes over memory: on the CPU this stack is bound by memory, not by products."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        inverse = torch.rsqrt(norm.square_().div_(x.shape[-1]).add_(eps)).to(x.dtype)
        scaled = x * inverse
        ctx.save_for_backward(scaled, inverse, weight)
        return scaled * weight.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        (gradient,) = gradients
        scaled, inverse, weight = ctx.saved_tensors
        product = gradient * scaled
        ones = torch.ones(1, product[..., 0].numel(), dtype=product.dtype, device=product.device)
        weight_gradient = (ones @ product.reshape(-1, product.shape[-1]))[0].to(weight.dtype)
        along = (product @ weight.to(product.dtype)[:, None]) / -scaled.shape[-1]
        inner = torch.addcmul(gradient * weight.to(gradient.dtype), scaled, along)
        return inner.mul_(inverse), weight_gradient, None


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """RMS norm over the last axis."""
    return RmsNorm.apply(x, weight, eps)  # type: ignore[no-any-return]


def attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None) -> Tensor:
    """Attention over [batch, tokens, heads, head_dim].

    Query heads that share a key head are laid behind each other, so that keys are never repeated in memory. `bias`
    [batch or 1, 1, queries, keys] is added to the scores.
    """
    batch, count, heads, width = query.shape
    groups, keys = key.shape[2], key.shape[1]
    share = heads // groups
    query = (query * width**-0.5).view(batch, count, groups, share, width)
    query = query.permute(0, 2, 3, 1, 4).reshape(batch * groups, share * count, width)
    key = key.permute(0, 2, 3, 1).reshape(batch * groups, width, keys)
    value = value.permute(0, 2, 1, 3).reshape(batch * groups, keys, width)
    scores = torch.bmm(query, key)
    if bias is not None:
        scores = (scores.view(batch, heads, count, keys) + bias).view(batch * groups, share * count, keys)
    weights = torch.softmax(scores, -1).to(value.dtype)
    attended = torch.bmm(weights, value).view(batch, groups, share, count, width)
    return attended.permute(0, 3, 1, 2, 4).reshape(batch, count, heads, width)


class AuxiliaryHeads(nn.Module):
    """Heads that speed up early training and are dropped afterwards.

    On the visual tokens: is there an object on this cell, its colour, its shape, its box. On the second decoder layer
    at the image: box, row and column (so that position survives into the decoder), and whether an object's centre is
    on this cell (so that there is one mark for each object to count). On the second layer at the names in a decision's
    prompt: row and column of what is called that. On the third where an option ends: whether it is the answer.
    """

    def __init__(self, width: int, colours: int, shapes: int, most_cells: int) -> None:
        super().__init__()
        self.colours, self.shapes, self.most_cells = colours, shapes, most_cells
        self.cell = nn.Linear(width, 1 + colours + shapes + 4)
        self.place = nn.Linear(width, 4 + 2 * most_cells)
        self.mark = nn.Linear(width, 1)
        self.point = nn.Linear(width, 2 * most_cells)
        self.right = nn.Linear(width, 1)


@dataclass(frozen=True)
class Heard:
    """What the auxiliary losses need of the decoder.

    Attributes:
        places: [B, cells, 4 + 2 most_cells + 1] what `place` and `mark` say of the cells.
        early, late: [B, T, width] the questions behind the second and the third layer.
    """

    places: Tensor
    early: Tensor
    late: Tensor


@dataclass(frozen=True)
class PackedStream:
    """Input of the decoder for packed questions.

    Attributes:
        head: [1, s, width] embeddings before the image, the same for all.
        stream: [B, n, width] visual tokens, the tail, and the packed questions.
        visual: [B, cells, width] the visual tokens alone.
        positions: int64 [B, n] of the stream; those of the head are 0 .. s - 1.
        bias: [B, 1, n, s + n] 0 where the stream may look, else FORBIDDEN.
        before: places of the stream before the first question.
    """

    head: Tensor
    stream: Tensor
    visual: Tensor
    positions: Tensor
    bias: Tensor
    before: int


class PackedModel(nn.Module):
    """`Exaone4_5_ForConditionalGeneration` with packed questions.

    Args:
        model: the Hugging Face model; its parameters are used in place.
        head_ids: int64 [s] token ids before the image.
        tail_ids: int64 [t] token ids after the image, before the question.
        auxiliary: the heads to train with, or None.
    """

    def __init__(
        self,
        model: Exaone4_5_ForConditionalGeneration,
        head_ids: list[int],
        tail_ids: list[int],
        auxiliary: AuxiliaryHeads | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.auxiliary = auxiliary
        self.vision_config, self.text_config = model.config.vision_config, model.config.text_config
        self.register_buffer("head_ids", torch.tensor(head_ids), persistent=False)
        self.register_buffer("tail_ids", torch.tensor(tail_ids), persistent=False)
        mean = torch.tensor(IMAGE_MEAN).repeat_interleave(PATCH * PATCH)
        std = torch.tensor(IMAGE_STD).repeat_interleave(PATCH * PATCH)
        self.register_buffer("pixel_scale", 1 / (255 * std), persistent=False)
        self.register_buffer("pixel_shift", -mean / std, persistent=False)
        head_dim = self.vision_config.hidden_size // self.vision_config.num_heads
        theta = self.vision_config.rope_parameters["rope_theta"]
        half = head_dim // 2
        frequency = 1.0 / (theta ** (torch.arange(0, half, 2, dtype=torch.float32) / half))
        self.register_buffer("vision_frequency", frequency, persistent=False)
        text_frequency = model.model.language_model.rotary_emb.inv_freq.clone()
        self.register_buffer("text_frequency", text_frequency, persistent=False)

    def see(self, images: Tensor) -> Tensor:
        """Encode images, uint8 [B, H, W, 3] with sides of 28 n pixels: visual tokens [B, n, width] in raster order."""
        batch, height, width, _ = images.shape
        rows, columns = height // TOKEN_PX, width // TOKEN_PX
        plan = plan_grid(rows, columns, self.vision_config.window_size)
        config, visual = self.vision_config, self.model.model.visual
        count = rows * columns * MERGE**2
        x = images.to(torch.float32).view(batch, rows, MERGE, PATCH, columns, MERGE, PATCH, 3)
        x = x.permute(0, 1, 4, 2, 5, 7, 3, 6).reshape(batch, rows * columns, MERGE**2, PATCH_VALUES // TEMPORAL)
        x = x[:, plan.order.to(x.device)].reshape(batch, count, -1) * self.pixel_scale + self.pixel_shift
        weight = visual.patch_embed.proj.weight.sum(2).reshape(
            config.hidden_size, -1
        )  # both temporal frames are the same
        x = F.linear(x, weight)
        heads, kv_heads = config.num_heads, config.num_key_value_heads
        head_dim = config.hidden_size // heads
        angle = plan.position.to(x.device).float()[..., None] * self.vision_frequency
        angle = angle.reshape(count, -1)
        angle = torch.cat((angle, angle), -1)
        cosine, sine = angle.cos().to(x.dtype)[None, :, None], angle.sin().to(x.dtype)[None, :, None]
        for i, block in enumerate(visual.blocks):
            y = rms_norm(x, block.norm1.weight, VISION_EPS)
            qkv = block.attn.qkv(y).view(batch, count, heads + 2 * kv_heads, head_dim)
            query, key, value = qkv.split([heads, kv_heads, kv_heads], 2)
            query, key = rotate(query, cosine, sine), rotate(key, cosine, sine)
            if i in config.fullatt_block_indexes:
                y = attention(query, key, value).reshape(batch, count, -1)
            else:
                y = self._windowed(query, key, value, plan).reshape(batch, count, -1)
            x = x + block.attn.proj(y)
            y = rms_norm(x, block.norm2.weight, VISION_EPS)
            x = x + block.mlp.down_proj(F.silu(block.mlp.gate_proj(y)) * block.mlp.up_proj(y))
        y = rms_norm(x, visual.merger.ln_q.weight, VISION_EPS).reshape(batch, rows * columns, -1)
        return visual.merger.mlp(y)[:, plan.reverse.to(x.device)]

    @staticmethod
    def _windowed(query: Tensor, key: Tensor, value: Tensor, plan: GridPlan) -> Tensor:
        outputs, start = [], 0
        for number, length in plan.windows:
            part = slice(start, start + number * length)
            start += number * length
            q, k, v = (z[:, part].reshape(-1, length, *z.shape[2:]) for z in (query, key, value))
            outputs.append(attention(q, k, v).reshape(query.shape[0], number * length, *query.shape[2:]))
        return torch.cat(outputs, 1)

    def forward(
        self, images: Tensor, tokens: Tensor, offsets: Tensor, segments: Tensor
    ) -> tuple[Tensor, Tensor | None, Heard | None]:
        """Compute the hidden states of packed questions.

        Args:
            images: uint8 [B, H, W, 3].
            tokens: int64 [B, T] packed questions with their answers.
            offsets: int64 [B, T] place of each token in its own question, from 0.
            segments: int64 [B, T] number of the question; negative = padding.

        Returns:
            Hidden states [B, T, width] before the language-model head, and what the auxiliary heads say (or None).
        """
        packed = self.pack(images, tokens, offsets, segments)
        _, stream, early, late = self._decode(packed)
        if self.auxiliary is None:
            return stream[:, packed.before :], None, None
        cells = packed.visual.shape[1]
        hidden = stream[:, packed.before :]
        seen = early[:, :cells]
        places = torch.cat([self.auxiliary.place(seen), self.auxiliary.mark(seen)], -1)
        heard = Heard(places, early[:, packed.before :], late[:, packed.before :])
        return hidden, self.auxiliary.cell(packed.visual), heard

    def trunk(self, packed: PackedStream) -> tuple[Tensor, Tensor]:
        """Hidden states behind the final norm of the head [1, s, width] and of the stream [B, n, width]."""
        head, stream, _, _ = self._decode(packed)
        weight, eps = self.model.model.language_model.norm.weight, self.text_config.rms_norm_eps
        return rms_norm(head, weight, eps), stream

    def pack(self, images: Tensor, tokens: Tensor, offsets: Tensor, segments: Tensor) -> PackedStream:
        """What goes into the decoder for packed questions; arguments as of `forward`."""
        visual = self.see(images)
        batch, cells = visual.shape[:2]
        embed = self.model.model.language_model.embed_tokens
        tail = embed(self.tail_ids).to(visual.dtype)[None].expand(batch, -1, -1)
        stream = torch.cat([visual, tail, embed(tokens).to(visual.dtype)], 1)
        head = embed(self.head_ids).to(visual.dtype)[None]
        first = len(self.head_ids)
        before = cells + len(self.tail_ids)
        device = tokens.device
        positions = torch.cat(
            [torch.arange(first, first + before, device=device).expand(batch, -1), first + before + offsets], 1
        )
        owner = torch.cat([torch.zeros(batch, before, dtype=torch.long, device=device), segments], 1)
        place = torch.arange(before + tokens.shape[1], device=device)
        allowed = (place[:, None] >= place)[None] & (
            (owner[:, None, :] == 0) | (owner[:, None, :] == owner[:, :, None])
        )
        bias = torch.where(allowed, 0.0, FORBIDDEN).to(stream.dtype)[:, None]
        return PackedStream(head, stream, visual, positions, F.pad(bias, (first, 0)), before)

    def _decode(self, packed: PackedStream) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The head before the final norm, the stream behind it, and the stream behind the second and third layers."""
        config, decoder = self.text_config, self.model.model.language_model
        head, stream, positions, bias = packed.head, packed.stream, packed.positions, packed.bias
        batch, first = stream.shape[0], head.shape[1]
        head_place = torch.arange(first, device=stream.device)
        head_bias = torch.where(head_place[:, None] >= head_place, 0.0, FORBIDDEN).to(stream.dtype)[None, None]
        rotations = [self.waves(head_place[None], stream.dtype), self.waves(positions, stream.dtype)]
        early = late = stream
        for i, layer in enumerate(decoder.layers):
            rope = layer.self_attn.is_sliding  # a global layer has no positions (NoPE)
            q0, k0, v0 = self.project(layer, head, rotations[0] if rope else None)
            q1, k1, v1 = self.project(layer, stream, rotations[1] if rope else None)
            k1, v1 = (torch.cat([a.expand(batch, -1, -1, -1), b], 1) for a, b in ((k0, k1), (v0, v1)))
            head = self.finish(layer, head, attention(q0, k0, v0, head_bias))
            stream = self.finish(layer, stream, attention(q1, k1, v1, bias))
            if i == 1:
                early = stream
            if i == 2:
                late = stream
        return head, rms_norm(stream, decoder.norm.weight, config.rms_norm_eps), early, late

    def waves(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosine and sine of the decoder's rotary embedding for positions int64 [B or 1, n]."""
        angle = positions[..., None].float() * self.text_frequency
        angle = torch.cat((angle, angle), -1)
        return angle.cos().to(dtype)[:, :, None], angle.sin().to(dtype)[:, :, None]

    def project(
        self, layer: nn.Module, x: Tensor, waves: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values [B, n, heads, head_dim] of a decoder layer; no `waves` = no positions."""
        config, block = self.text_config, layer.self_attn
        shape = (*x.shape[:2], -1, config.head_dim)
        query = rms_norm(block.q_proj(x).view(shape), block.q_norm.weight, config.rms_norm_eps)
        key = rms_norm(block.k_proj(x).view(shape), block.k_norm.weight, config.rms_norm_eps)
        value = block.v_proj(x).view(shape)
        query, key = query.to(value.dtype), key.to(value.dtype)
        if waves is not None:
            query, key = rotate(query, *waves).to(value.dtype), rotate(key, *waves).to(value.dtype)
        return query, key, value

    def finish(self, layer: nn.Module, x: Tensor, attended: Tensor) -> Tensor:
        """The rest of a decoder layer behind its attention: output projection, MLP, norms inside the residuals."""
        eps = self.text_config.rms_norm_eps
        y = layer.self_attn.o_proj(attended.reshape(*x.shape[:2], -1))
        x = x + rms_norm(y, layer.post_attention_layernorm.weight, eps)
        y = layer.mlp.down_proj(F.silu(layer.mlp.gate_proj(x)) * layer.mlp.up_proj(x))
        return x + rms_norm(y, layer.post_feedforward_layernorm.weight, eps)
