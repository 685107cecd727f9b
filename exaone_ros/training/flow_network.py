"""The velocity field of the flow-matching head, in PyTorch: to be trained. `model.flow_graph` writes it as ONNX."""

from __future__ import annotations

import torch
from torch import Tensor, nn

WIDTH, LAYERS, HEADS = 96, 2, 4


class Attention(nn.Module):
    """Multi-head attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """[B, N, width] looking at [B, M, width]."""
        q, k, v = (self._split(p(y)) for p, y in ((self.query, x), (self.key, context), (self.value, context)))
        weights = torch.softmax(q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5), dim=-1)
        mixed: Tensor = self.out((weights @ v).transpose(1, 2).flatten(2))
        return mixed

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class Block(nn.Module):
    """Actions look at each other, then at what was seen, then think."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.among, self.across = Attention(width, heads), Attention(width, heads)
        self.think = nn.Sequential(nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """[B, H, width], [B, M, width] -> [B, H, width]."""
        y = self.norms[0](x)
        x = x + self.among(y, y)
        x = x + self.across(self.norms[1](x), context)
        thought: Tensor = self.think(self.norms[2](x))
        return x + thought


class FlowNetwork(nn.Module):
    """The velocity field.

    Args:
        feature_shape: (T, D).
        state, horizon, joints: S, H, A.
        width, layers, heads: of the transformer.
    """

    def __init__(
        self,
        feature_shape: tuple[int, int],
        state: int,
        horizon: int,
        joints: int,
        width: int = WIDTH,
        layers: int = LAYERS,
        heads: int = HEADS,
    ) -> None:
        super().__init__()
        tokens, depth = feature_shape
        self.heads = heads
        self.see = nn.Linear(depth, width)
        self.see_place = nn.Parameter(0.02 * torch.randn(tokens, width))
        self.feel = nn.Linear(state, width)
        self.act = nn.Linear(joints, width)
        self.act_place = nn.Parameter(0.02 * torch.randn(horizon, width))
        self.when = nn.Sequential(nn.Linear(1, width), nn.SiLU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, joints)

    def forward(self, features: Tensor, state: Tensor, actions: Tensor, time: Tensor) -> Tensor:
        """[B, T, D], [B, S], [B, H, A], [B] -> velocity [B, H, A]."""
        context = torch.cat([self.see(features) + self.see_place, self.feel(state).unsqueeze(1)], dim=1)
        x = self.act(actions) + self.act_place + self.when(time.unsqueeze(-1)).unsqueeze(1)
        for block in self.blocks:
            x = block(x, context)
        velocity: Tensor = self.out(self.norm(x))
        return velocity
