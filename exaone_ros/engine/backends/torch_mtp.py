"""The MTP layer over `transformers`' own decoder layer, without a cache: every draft is computed from the beginning."""

from __future__ import annotations

from typing import Any

import numpy as np

from exaone_ros.errors import require
from exaone_ros.model.checkpoint import Checkpoint
from exaone_ros.model.config import SLIDING

PREFIX = "mtp."


class TorchMtp:
    """What drafts on one sequence. Slow; what it says is the truth.

    Args:
        checkpoint: with an MTP layer.
        text_config: of `transformers`, of the decoder.
        rotary: the decoder's module that makes cosines and sines.
        device: where to compute.

    Raises:
        CheckpointError: the checkpoint has no MTP layer.
    """

    def __init__(self, checkpoint: Checkpoint, text_config: Any, rotary: Any, device: Any) -> None:
        checkpoint.require_mtp()
        torch = self._torch = require("torch", "torch")
        modeling = require("transformers.models.exaone4.modeling_exaone4", "torch")
        config = type(text_config)(**text_config.to_dict())
        config.layer_types = [checkpoint.config.text.mtp_layer_type, *config.layer_types[1:]]
        config._attn_implementation = "eager"
        self._layer = modeling.Exaone4DecoderLayer(config, 0).to(device).eval()
        self._norms = {
            name: modeling.Exaone4RMSNorm(config.hidden_size, config.rms_norm_eps).to(device)
            for name in ("pre_fc_norm_embedding", "pre_fc_norm_hidden", "norm")
        }
        tensors = {
            name.removeprefix(PREFIX): torch.from_numpy(np.array(checkpoint.read(name))).to(device)
            for name in checkpoint.mtp
        }
        self._fc = tensors.pop("fc.weight")
        for name, norm in self._norms.items():
            norm.load_state_dict({"weight": tensors.pop(f"{name}.weight")})
        layer = {name.removeprefix("layers.0."): value for name, value in tensors.items()}
        self._layer.load_state_dict(layer, strict=True)
        self._rotary, self._device = rotary, device
        sliding = checkpoint.config.text.mtp_layer_type == SLIDING
        self._window = checkpoint.config.text.sliding_window if sliding else None

    def drafted(self, hidden: Any, embedded: Any) -> Any:
        """The state behind the last of some tokens, to be read by the language-model head.

        Args:
            hidden: float32 [n, width] of the decoder at the first n positions.
            embedded: float32 [n + k - 1, width], k >= 1: embeddings of the tokens at positions 1 to n + k - 1. From
                the second of those that are not run yet on, the layer's own result is the hidden state.

        Returns:
            float32 [width].
        """
        torch, given = self._torch, hidden.shape[0]
        joined = torch.cat([self._norms["pre_fc_norm_embedding"](embedded[:given]), self._normed(hidden)], -1)
        result = self._attend(inputs := joined @ self._fc.T)
        for following in embedded[given:]:
            joined = torch.cat([self._norms["pre_fc_norm_embedding"](following), self._normed(result)], -1)
            inputs = torch.cat([inputs, (joined @ self._fc.T)[None]])
            result = self._attend(inputs)
        return result

    def _normed(self, hidden: Any) -> Any:
        return self._norms["pre_fc_norm_hidden"](hidden)

    def _attend(self, inputs: Any) -> Any:
        """The layer on all entries; the last one's result."""
        torch, count = self._torch, inputs.shape[0]
        place = torch.arange(count, device=self._device)
        seen = place[None] <= place[:, None]
        if self._window is not None:
            seen &= place[None] > place[:, None] - self._window
        mask = torch.zeros(seen.shape, device=self._device).masked_fill(~seen, torch.finfo(torch.float32).min)
        states = inputs[None]
        waves = self._rotary(states, place[None])
        states = self._layer(states, position_embeddings=waves, attention_mask=mask[None, None])
        states = states[0] if isinstance(states, tuple) else states
        return self._norms["norm"](states[0, -1])
