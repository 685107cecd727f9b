"""The MTP layer: learns, on a trained trunk that stays as it is, to say the token after the next one.

Structure and names are those of the released checkpoint's `mtp.*` weights: the embedding of the next token and the
last hidden state (behind the final norm), each normed, joined by `fc`, then one decoder layer and a norm; embedding
table and language-model head are the trunk's. What it says about a place is used as the hidden state of the next place
when more than one token is drafted, so that is trained too.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from transformers.models.exaone4.modeling_exaone4 import Exaone4DecoderLayer, Exaone4RMSNorm

from exaone_ros.training.forward import FORBIDDEN, PackedModel, PackedStream, attention, rms_norm
from exaone_ros.training.packing import Batch

DEPTH = 2
"""Drafts in a row that are trained; a third one works by the same weights."""


class MtpLayer(nn.Module):
    """The weights `mtp.*` of a checkpoint.

    Args:
        text: the `text_config` of the trunk. The layer is of the kind of a sliding-window layer, as the pattern LLLG
            goes on behind its last G.
    """

    def __init__(self, text: Any) -> None:
        super().__init__()
        width, eps = text.hidden_size, text.rms_norm_eps
        self.pre_fc_norm_embedding = Exaone4RMSNorm(width, eps)
        self.pre_fc_norm_hidden = Exaone4RMSNorm(width, eps)
        self.fc = nn.Linear(2 * width, width, bias=False)
        self.layers = nn.ModuleList([Exaone4DecoderLayer(text, 0)])
        self.norm = Exaone4RMSNorm(width, eps)

    @torch.no_grad()
    def initialise(self, trunk: nn.Module, seed: int) -> None:
        """Set starting values: as of the trunk's layers, and the trunk's own final norm."""
        torch.manual_seed(seed)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                parameter.normal_(0, parameter.shape[1] ** -0.5)
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                parameter.mul_(0.5)
        self.layers[0].post_attention_layernorm.weight.fill_(0.5)
        self.layers[0].post_feedforward_layernorm.weight.fill_(0.5)
        self.norm.weight.copy_(trunk.norm.weight)

    def join(self, embedded: Tensor, hidden: Tensor) -> Tensor:
        """Embeddings of the next tokens and hidden states, [B, n, width] each, as input of the layer."""
        eps = self.norm.variance_epsilon
        embedded = rms_norm(embedded, self.pre_fc_norm_embedding.weight, eps)
        hidden = rms_norm(hidden, self.pre_fc_norm_hidden.weight, eps)
        return self.fc(torch.cat([embedded, hidden], -1))


def draft_hidden(
    model: PackedModel, mtp: MtpLayer, packed: PackedStream, trunk: tuple[Tensor, Tensor], depth: int = DEPTH
) -> list[Tensor]:
    """What the MTP layer makes of packed questions.

    Entry i of the first result takes the hidden state at place i and the token at place i + 1, and stands for place
    i + 1. The second result takes the first one's entry i - 1 instead of the trunk's hidden state at i, and so on: it
    sees the first one's entries before its own place, and itself.

    Args:
        model: the trunk; no gradient reaches it.
        mtp: the layer.
        packed: from `PackedModel.pack`.
        trunk: hidden states from `PackedModel.trunk`.
        depth: number of results, 1 or more.

    Returns:
        `depth` tensors [B, s + n, width] behind `mtp.norm`, to be read by the language-model head.
    """
    with torch.no_grad():
        head_hidden, stream_hidden = trunk
        batch, first = len(packed.stream), packed.head.shape[1]
        hidden = torch.cat([head_hidden.expand(batch, -1, -1), stream_hidden], 1)
        embedded = torch.cat([packed.head.expand(batch, -1, -1), packed.stream], 1)
        embedded = torch.cat([embedded[:, 1:], embedded[:, -1:]], 1)
        place = torch.arange(first, device=hidden.device)
        positions = torch.cat([place.expand(batch, -1), packed.positions], 1)
        causal = torch.where(place[:, None] >= place, 0.0, FORBIDDEN).to(hidden.dtype)
        causal = F.pad(causal, (0, packed.positions.shape[1]), value=FORBIDDEN)
        bias = torch.cat([causal.expand(batch, 1, -1, -1), packed.bias], 2)
        # The token behind the prefix is another one for each question: its entry is the first question's alone.
        last = first + packed.before - 1
        later = positions.new_zeros(positions.shape, dtype=torch.bool)
        starts = packed.positions[:, packed.before :] == last + 1
        later[:, last + 1 :] = starts.cumsum(1) > 1
        bias = bias.clone()
        bias[:, 0, :, last] = torch.where(later, FORBIDDEN, bias[:, 0, :, last].float()).to(bias.dtype)
        count = hidden.shape[1]
        own = torch.eye(count, dtype=torch.bool, device=hidden.device)
        itself = torch.where(own, 0.0, FORBIDDEN).to(bias.dtype).expand(batch, 1, -1, -1)
        waves = model.waves(positions, hidden.dtype)
    layer = mtp.layers[0]
    rotation = waves if layer.self_attn.is_sliding else None
    results: list[Tensor] = []
    keys: list[Tensor] = []
    values: list[Tensor] = []
    seen: list[Tensor] = []  # the bias of each block of keys
    for step in range(depth):
        x = mtp.join(embedded.to(hidden.dtype), hidden)
        query, key, value = model.project(layer, x, rotation)
        keys, values = [*keys, key], [*values, value]
        # Entries of an earlier result stand for places before this one's; each moves back by one with every step.
        seen = [bias] if step == 0 else [_later(block) for block in seen]
        if step:
            seen.append(itself)
        attended = attention(query, torch.cat(keys, 1), torch.cat(values, 1), torch.cat(seen, -1))
        result = rms_norm(model.finish(layer, x, attended), mtp.norm.weight, mtp.norm.variance_epsilon)
        results.append(result)
        hidden = torch.cat([result[:, :1], result[:, :-1]], 1)
    return results


def _later(bias: Tensor) -> Tensor:
    """What the query one place earlier saw."""
    return torch.cat([bias[:, :, :1], bias[:, :, :-1]], 2)


def draft_loss(model: PackedModel, mtp: MtpLayer, batch: Batch, depth: int = DEPTH) -> tuple[Tensor, dict[str, float]]:
    """Cross entropy against what the trunk itself says at the drafted place, and how often both say the same.

    The trunk's own distribution is the target, not the true answer: a draft is accepted when the trunk says the same.
    """
    with torch.no_grad():
        packed = model.pack(batch.images, batch.tokens, batch.offsets, batch.segments)
        trunk = model.trunk(packed)
    hidden = trunk[1][:, packed.before :]
    drafted = draft_hidden(model, mtp, packed, trunk, depth)
    first = packed.head.shape[1] + packed.before
    told = batch.targets >= 0
    loss, parts = hidden.new_zeros((), dtype=torch.float32), {}
    for step, result in enumerate(drafted, start=1):
        # entry i of result `step` stands for place i + 1; its question must have begun `step` places before that
        target = told.clone()
        target[:, :step] = False
        target[:, step:] &= batch.segments[:, step:] == batch.segments[:, :-step]
        entry = result[:, first - 1 : -1][target]
        with torch.no_grad():
            truth = model.model.lm_head(hidden[target]).float().softmax(-1)
        logits = model.model.lm_head(entry).float()
        loss = loss - (truth * logits.log_softmax(-1)).sum(-1).mean() / depth
        parts[f"agree_{step}"] = float((logits.argmax(-1) == truth.argmax(-1)).float().mean())
    return loss, parts | {"loss": float(loss.detach())}
