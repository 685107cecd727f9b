"""The reference backend: `transformers`' own EXAONE 4.5 classes, one row at a time. Slow; what it says is the truth."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exaone_ros.engine.backend import DraftRow, Limits, Row, VisualTokens
from exaone_ros.engine.backends.kv_cache import token_bytes
from exaone_ros.engine.backends.rows import check_copy, check_draft_rows, check_rows, check_sizes, check_start
from exaone_ros.engine.backends.torch_mtp import TorchMtp
from exaone_ros.errors import CheckpointError, EngineError, require
from exaone_ros.model.checkpoint import Checkpoint
from exaone_ros.model.config import FULL, SLIDING, ModelConfig
from exaone_ros.model.preprocess import PreprocessConfig, preprocess

_CANONICAL_TO_MODULE = (("visual.", "model.visual."), ("text.", "model.language_model."), ("lm_head.", "lm_head."))


class TorchBackend:
    """Backend over `transformers` in float32, with a growing KV cache for each slot."""

    name = "torch"

    def __init__(
        self,
        checkpoint_dir: str | Path,
        *,
        slots: int,
        context: int,
        threads: int = 0,
        device: str = "cpu",
        mtp: bool = False,
        visual_tokens: int = 0,
    ) -> None:
        """Load a checkpoint; arguments as in `open_backend`.

        `threads` holds for the whole process: torch has no other setting.

        Raises:
            CheckpointError: the checkpoint cannot be used, or has no MTP layer where one is asked for.
            EngineError: sizes make no sense, or the device is not there.
            MissingExtra: torch or transformers is not installed.
        """
        self._torch = require("torch", "torch")
        require("transformers", "torch")
        checkpoint = Checkpoint.open(checkpoint_dir)
        self._config = checkpoint.config
        check_sizes(self._config, slots, context, threads, visual_tokens)
        self._preprocess = PreprocessConfig.read(checkpoint_dir, self._config.vision).within(visual_tokens)
        text, most = self._config.text, self._preprocess.max_visual_tokens
        self._limits = Limits(slots, context, text.vocab, most, token_bytes(text, 4))
        if threads:
            self._torch.set_num_threads(threads)
        self._device = self._open_device(device)
        self._model: Any = load_transformers_model(checkpoint).to(self._device)
        self._caches: list[Any] = [None] * slots
        language = self._model.model.language_model
        self._mtp = TorchMtp(checkpoint, language.config, language.rotary_emb, self._device) if mtp else None
        # For drafts: (hidden states, embeddings) of what each slot holds, [n, width] each.
        empty = self._torch.zeros(0, self._config.text.hidden, device=self._device)
        self._states: list[tuple[Any, Any]] = [(empty, empty)] * slots
        self._held = np.zeros(slots, np.int64)

    def _open_device(self, device: str) -> Any:
        kind, _, number = device.partition(":")
        if kind not in ("cpu", "cuda") or not (number or "0").isdigit():
            raise EngineError(f"device is {device!r}; expected 'cpu', 'cuda' or 'cuda:N'")
        if kind == "cuda" and int(number or 0) >= self._torch.cuda.device_count():
            raise EngineError(f"device is {device!r}; torch sees {self._torch.cuda.device_count()} CUDA devices")
        return self._torch.device(device)

    @property
    def limits(self) -> Limits:
        return self._limits

    def encode(self, image: NDArray[np.uint8]) -> VisualTokens:
        self._check_open()
        torch, config = self._torch, self._preprocess
        began = time.perf_counter()
        patches, (height, width) = preprocess(image, config)
        channels = patches.reshape(len(patches), 3, config.patch**2).astype(np.float32) * np.float32(config.scale)
        mean, std = (np.array(values, np.float32)[:, None] for values in (config.mean, config.std))
        # [patch, channel, time, pixel]: a still image is the same at all times
        copies = self._config.vision.temporal_patch
        pixels = np.repeat(((channels - mean) / std)[:, :, None], copies, axis=2).reshape(len(patches), -1)
        took = time.perf_counter() - began
        grid = torch.tensor([[1, height * config.merge, width * config.merge]], device=self._device)
        with torch.inference_mode():
            found = self._model.model.visual(torch.from_numpy(pixels).to(self._device), grid_thw=grid)
        return VisualTokens(found.pooler_output.cpu().numpy(), (height, width), took)

    def run(self, rows: Sequence[Row]) -> list[NDArray[np.float32]]:
        self._check_open()
        check_rows(rows, self._limits, self._config.image_token)
        for row in rows:
            check_start(row, self._held)
        with self._torch.inference_mode():
            return [self._run_row(row) for row in rows]

    def copy(self, source: int, targets: Sequence[int], length: int) -> None:
        self._check_open()
        check_copy(source, targets, length, self._held)
        for target in targets:
            self._caches[target] = self._first_of(self._caches[source], length)
            self._states[target] = self._states[source]
        self._held[list(targets)] = length

    @property
    def drafts(self) -> bool:
        """True where it was opened with `mtp`."""
        return self._mtp is not None

    def draft(self, rows: Sequence[DraftRow]) -> list[NDArray[np.float32]]:
        """As `DraftingBackend.draft`; EngineError where the backend was opened without `mtp`."""
        self._check_open()
        if self._mtp is None:
            raise EngineError("the backend was opened without its MTP layer; open it with mtp=True to draft")
        check_draft_rows(rows, self._limits, self._held, self._config.image_token)
        torch, logits = self._torch, []
        with torch.inference_mode():
            for row in rows:
                hidden, embedded = (part[: row.start] for part in self._states[row.slot])
                tokens = torch.from_numpy(np.array(row.tokens, np.int64)).to(self._device)
                following = torch.cat([embedded[1:], self._model.get_input_embeddings()(tokens)])
                drafted = self._mtp.drafted(hidden, following)
                logits.append(self._model.lm_head(drafted).float().cpu().numpy())
        return logits

    def close(self) -> None:
        self._model = self._mtp = None
        self._states = []
        self._caches = []

    def _check_open(self) -> None:
        if self._model is None:
            raise EngineError("the backend is closed; open a new one")

    def _first_of(self, cache: Any, length: int) -> Any:
        """A new cache with the first `length` positions of another."""
        from transformers import DynamicCache

        # Without a configuration every layer keeps all its keys, so that any slot can be cut back; masks do the rest.
        kept = DynamicCache()
        for index, layer in enumerate(cache.layers if length else ()):
            kept.update(layer.keys[:, :, :length].clone(), layer.values[:, :, :length].clone(), index)
        return kept

    def _run_row(self, row: Row) -> NDArray[np.float32]:
        torch = self._torch
        if row.start < self._held[row.slot] or row.start == 0:
            self._caches[row.slot] = self._first_of(self._caches[row.slot], row.start)
        tokens = torch.from_numpy(np.array(row.tokens, np.int64)).to(self._device)[None]
        embeddings = self._model.get_input_embeddings()(tokens)
        if row.visual:
            visual = torch.from_numpy(np.concatenate([np.asarray(image.embeddings) for image in row.visual]))
            at = (tokens == self._config.image_token)[..., None].expand_as(embeddings)
            embeddings = embeddings.masked_scatter(at, visual.to(embeddings))
        end = row.start + len(row.tokens)
        positions = torch.arange(row.start, end, device=self._device)[None]
        hidden = self._model.model.language_model(
            inputs_embeds=embeddings,
            position_ids=positions,
            attention_mask=self._masks(positions[0], end),
            past_key_values=self._caches[row.slot],
            use_cache=True,
        ).last_hidden_state
        self._held[row.slot] = end
        if self._mtp is not None:
            before = self._states[row.slot]
            new = (hidden[0], embeddings[0])
            self._states[row.slot] = tuple(torch.cat([a[: row.start], b]) for a, b in zip(before, new, strict=True))
        kept = hidden[0, hidden.shape[1] - row.logits :]
        logits: NDArray[np.float32] = self._model.lm_head(kept).float().cpu().numpy()
        return logits

    def _masks(self, queries: Any, length: int) -> dict[str, Any]:
        """Additive masks float32 [1, 1, S, length] for each kind of layer."""
        torch = self._torch
        keys = torch.arange(length, device=self._device)
        seen = keys[None] <= queries[:, None]
        window = self._config.text.sliding_window
        local = seen if window is None else seen & (keys[None] > queries[:, None] - window)
        lowest = torch.finfo(torch.float32).min
        return {
            kind: torch.zeros(mask.shape, device=self._device).masked_fill(~mask, lowest)[None, None]
            for kind, mask in ((FULL, seen), (SLIDING, local))
        }


def load_transformers_model(checkpoint: Checkpoint, attention: str = "sdpa") -> Any:
    """`transformers`' Exaone4_5_ForConditionalGeneration with the weights of a checkpoint, float32, in eval mode.

    Built from what `Checkpoint` has read, so that released configurations load, which `transformers` itself rejects.

    Raises:
        CheckpointError: a weight does not fit into `transformers`' classes.
    """
    torch = require("torch", "torch")
    transformers = require("transformers", "torch")
    config = transformers.Exaone4_5_Config(**_transformers_config(checkpoint.directory, checkpoint.config))
    with torch.device("meta"):
        model = transformers.Exaone4_5_ForConditionalGeneration._from_config(
            config, attn_implementation=attention, dtype=torch.float32
        )
    state = {_module_name(name): torch.from_numpy(np.array(checkpoint.read(name))) for name in checkpoint.tensors}
    if checkpoint.config.text.tied_embeddings and "lm_head.weight" not in state:
        state["lm_head.weight"] = state["model.language_model.embed_tokens.weight"]
    try:
        model.load_state_dict(state, strict=True, assign=True)
    except RuntimeError as error:
        raise CheckpointError(
            f"{checkpoint.directory}: the weights do not fit transformers' classes: {error}"
        ) from error
    # Rotary tables are buffers that no checkpoint holds: compute them now that the device is real.
    model.model.visual.rotary_pos_emb = type(model.model.visual.rotary_pos_emb)(config.vision_config)
    model.model.language_model.rotary_emb = type(model.model.language_model.rotary_emb)(config=config.text_config)
    return model.eval()


def _transformers_config(directory: Path, config: ModelConfig) -> dict[str, Any]:
    """The content of config.json, rid of what `transformers` stumbles over."""
    raw: dict[str, Any] = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    raw.pop("quantization_config", None)  # the weights come dequantised
    text = {**raw["text_config"], "model_type": "exaone4", "layer_types": list(config.text.layer_types)}
    text.pop("quantization_config", None)
    text["head_dim"] = config.text.head_dim
    # Our text of L and G is spelled out in layer_types already; transformers computes with the number only.
    text["sliding_window_pattern"] = None if config.text.sliding_window is None else 4
    return {**raw, "text_config": text, "tie_word_embeddings": config.text.tied_embeddings}


def _module_name(canonical: str) -> str:
    for prefix, module in _CANONICAL_TO_MODULE:
        if canonical.startswith(prefix):
            return module + canonical[len(prefix) :]
    raise CheckpointError(f"'{canonical}' is no canonical name of a weight")
