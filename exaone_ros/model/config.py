"""The hyper-parameters of an EXAONE 4.5 checkpoint, read from its `config.json`.

Knows the quirks of released configurations: 65 `layer_types` for 64 layers (the last one belongs to the MTP layer),
`exaone4_5_text` for `exaone4`, `rope_scaling` beside `rope_theta` for `rope_parameters`, a `sliding_window_pattern`
for `layer_types`. A missing key has the default of `transformers`' Exaone4_5Config.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exaone_ros.errors import CheckpointError
from exaone_ros.model.config_section import Section, read_json

SLIDING = "sliding_attention"
FULL = "full_attention"
MOST_LAYERS = 1000
"""Of a configuration that is sound: every layer's tensors are listed when it is opened."""
TEXT_MODEL_TYPES = ("exaone4", "exaone4_5_text")


@dataclass(frozen=True)
class VisionConfig:
    """Hyper-parameters of the vision encoder; `window_px` is the side of an attention window in pixels."""

    depth: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    channels: int
    patch: int
    merge: int
    temporal_patch: int
    window_px: int
    out_hidden: int
    full_attention_blocks: tuple[int, ...]
    rope_theta: float

    @property
    def head_dim(self) -> int:
        return self.hidden // self.heads

    @property
    def window_tokens(self) -> int:
        """Side of an attention window in visual tokens."""
        return self.window_px // self.patch // self.merge

    @property
    def window_patches(self) -> int:
        """Patches in a complete attention window."""
        return (self.window_tokens * self.merge) ** 2

    @property
    def token_px(self) -> int:
        """Side of one visual token in pixels; image sides are multiples of it."""
        return self.patch * self.merge


@dataclass(frozen=True)
class RopeConfig:
    """Rotary embedding of the text model; `factor` 1.0 means no scaling (rope type "default")."""

    theta: float
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_context: int = 8192

    def inverse_frequencies(self, head_dim: int) -> NDArray[np.float32]:
        """Angular frequency of each pair of dimensions, float32 [head_dim / 2], in radians per position.

        Llama 3 scaling: wavelengths beyond `original_context / low_freq_factor` are stretched by `factor`, those
        under `original_context / high_freq_factor` are kept, between them it is interpolated.
        """
        exponents = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
        plain: NDArray[np.float32] = (1.0 / np.power(np.float32(self.theta), exponents)).astype(np.float32)
        if self.factor == 1.0:
            return plain
        turns = np.float32(self.original_context) * plain / np.float32(2 * math.pi)
        smooth = (turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor)
        keep = np.clip(smooth, 0.0, 1.0).astype(np.float32)
        scaled: NDArray[np.float32] = ((1 - keep) * plain / np.float32(self.factor) + keep * plain).astype(np.float32)
        return scaled

    def tables(self, head_dim: int, positions: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Cosines and sines for positions 0..positions-1, float32 [positions, head_dim / 2] each."""
        angles: NDArray[np.float32] = np.outer(
            np.arange(positions, dtype=np.float32), self.inverse_frequencies(head_dim)
        )
        return np.cos(angles), np.sin(angles)


@dataclass(frozen=True)
class TextConfig:
    """Hyper-parameters of the decoder. `sliding_window` None: all layers are global and all have RoPE."""

    vocab: int
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    rms_eps: float
    sliding_window: int | None
    layer_types: tuple[str, ...]
    rope: RopeConfig
    max_context: int
    tied_embeddings: bool
    mtp_type: str | None = None
    """What the configuration says of the MTP layer's kind; most say nothing."""

    @property
    def mtp_layer_type(self) -> str:
        """Kind of the MTP layer: the entry of `layer_types` behind the decoder's, else as the pattern LLLG goes on."""
        if self.mtp_type is not None:
            return self.mtp_type
        return FULL if self.sliding_window is None else SLIDING

    def is_sliding(self, layer: int) -> bool:
        return self.layer_types[layer] == SLIDING

    def has_rope(self, layer: int) -> bool:
        """Sliding layers have RoPE, global layers of a hybrid model have none (NoPE)."""
        return self.sliding_window is None or self.is_sliding(layer)


@dataclass(frozen=True)
class ModelConfig:
    """An EXAONE 4.5 model: vision encoder, decoder, and the token ids that join them."""

    vision: VisionConfig
    text: TextConfig
    image_token: int
    eos_tokens: tuple[int, ...]

    @classmethod
    def read(cls, directory: str | Path) -> ModelConfig:
        """Read `config.json` (and the end tokens of `generation_config.json`) of a checkpoint directory.

        Raises:
            CheckpointError: a file is missing or no JSON, it describes another architecture, or a value is wrong.
        """
        directory = Path(directory)
        raw = read_json(directory / "config.json")
        generation_file = directory / "generation_config.json"
        generation = read_json(generation_file) if generation_file.is_file() else {}
        return cls.parse(raw, generation, str(directory / "config.json"))

    @classmethod
    def parse(cls, raw: dict[str, Any], generation: dict[str, Any] | None = None, where: str = "config") -> ModelConfig:
        """Read a configuration from the content of `config.json`; `where` is named in errors.

        Raises:
            CheckpointError: it describes another architecture, or a value is wrong.
        """
        model_type = raw.get("model_type")
        if model_type != "exaone4_5":
            raise CheckpointError(
                f"{where}: model_type is {model_type!r}; expected 'exaone4_5': this is no EXAONE 4.5 checkpoint"
            )
        top = Section(raw, where)
        vision = _vision(Section(top.section("vision_config"), f"{where}: vision_config"))
        text_section = Section(top.section("text_config"), f"{where}: text_config")
        tied = raw.get("tie_word_embeddings", text_section.raw.get("tie_word_embeddings", False))
        text = _text(text_section, tied=bool(tied))
        if vision.out_hidden != text.hidden:
            raise CheckpointError(
                f"{where}: vision_config.out_hidden_size is {vision.out_hidden} but text_config.hidden_size is "
                f"{text.hidden}; visual tokens must be as wide as the decoder"
            )
        sources = (generation or {}, raw, text_section.raw, {"eos_token_id": 2})
        eos = next(value for value in (source.get("eos_token_id") for source in sources) if value is not None)
        eos_tokens = tuple(eos) if isinstance(eos, list) else (eos,)
        if not eos_tokens:
            raise CheckpointError(f"{where}: eos_token_id is []; expected a token id, or no answer in words would end")
        for name, token in [("image_token_id", top.integer("image_token_id", 67))] + [
            ("eos_token_id", token) for token in eos_tokens
        ]:
            if isinstance(token, bool) or not isinstance(token, int) or not 0 <= token < text.vocab:
                raise CheckpointError(f"{where}: {name} is {token!r}; expected a token id from 0 to {text.vocab - 1}")
        return cls(vision, text, top.integer("image_token_id", 67), eos_tokens)


def _vision(section: Section) -> VisionConfig:
    section.must_be("model_type", "exaone4_5_vision")
    section.must_be("hidden_act", "silu")
    rope = section.raw.get("rope_parameters") or section.raw.get("rope_scaling") or {}
    if not isinstance(rope, dict):
        raise CheckpointError(f"{section.where}: rope_parameters is {rope!r}; expected an object")
    rope_type = rope.get("rope_type", rope.get("type", "axial"))
    if rope_type not in ("axial", "default"):
        raise CheckpointError(f"{section.where}: rope type is {rope_type!r}; expected 'axial'")
    depth = section.integer("depth", 32, 1, MOST_LAYERS)
    full = section.raw.get("fullatt_block_indexes", [7, 15, 23, 31])
    if not isinstance(full, list) or any(isinstance(b, bool) or not isinstance(b, int) or b < 0 for b in full):
        raise CheckpointError(f"{section.where}: fullatt_block_indexes is {full!r}; expected a list of block numbers")
    config = VisionConfig(
        depth=depth,
        hidden=section.integer("hidden_size", 3584, 1),
        intermediate=section.integer("intermediate_size", 3420, 1),
        heads=section.integer("num_heads", 16, 1),
        kv_heads=section.integer("num_key_value_heads", 8, 1),
        channels=section.integer("in_channels", 3, 1),
        patch=section.square("patch_size", 14),
        merge=section.integer("spatial_merge_size", 2, 1),
        temporal_patch=section.square("temporal_patch_size", 2),
        window_px=section.integer("window_size", 112, 1),
        out_hidden=section.integer("out_hidden_size", 3584, 1),
        full_attention_blocks=tuple(sorted({b for b in full if b < depth})),
        rope_theta=Section(rope, f"{section.where}: rope_parameters").number(
            "rope_theta", section.number("rope_theta", 10_000.0)
        ),
    )
    if config.channels != 3:
        raise CheckpointError(f"{section.where}: in_channels is {config.channels}; expected 3 (RGB)")
    _check_heads(section.where, config.hidden, config.heads, config.kv_heads, "num_heads")
    if config.head_dim % 4:
        raise CheckpointError(
            f"{section.where}: a head has {config.head_dim} dimensions; 2-D RoPE needs a multiple of 4"
        )
    if config.window_px % config.token_px:
        raise CheckpointError(
            f"{section.where}: window_size is {config.window_px} px; expected a multiple of one token, "
            f"{config.token_px} px"
        )
    return config


def _text(section: Section, *, tied: bool) -> TextConfig:
    model_type = section.raw.get("model_type", "exaone4")
    if model_type not in TEXT_MODEL_TYPES:
        raise CheckpointError(f"{section.where}: model_type is {model_type!r}; expected one of {TEXT_MODEL_TYPES}")
    section.must_be("hidden_act", "silu")
    hidden, heads = section.integer("hidden_size", 4096, 1), section.integer("num_attention_heads", 32, 1)
    kv_heads = section.integer("num_key_value_heads", 32, 1)
    layers = section.integer("num_hidden_layers", 32, 1, MOST_LAYERS)
    if section.raw.get("head_dim") is None:
        _check_heads(section.where, hidden, heads, kv_heads, "num_attention_heads")
    elif heads % kv_heads:
        raise CheckpointError(f"{section.where}: {heads} query heads cannot share {kv_heads} kv heads evenly")
    head_dim = section.integer("head_dim", hidden // heads, 2)
    if head_dim % 2:
        raise CheckpointError(f"{section.where}: head_dim is {head_dim}; RoPE needs an even number")
    window = section.raw.get("sliding_window", 4096)
    max_context = section.integer("max_position_embeddings", 2048, 1)
    return TextConfig(
        vocab=section.integer("vocab_size", 102400, 1),
        hidden=hidden,
        intermediate=section.integer("intermediate_size", 16384, 1),
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        rms_eps=section.number("rms_norm_eps", 1e-5),
        sliding_window=None if window is None else section.integer("sliding_window", 4096, 1),
        layer_types=_layer_types(section, layers, window),
        mtp_type=_mtp_type(section, layers),
        rope=_rope(section, max_context),
        max_context=max_context,
        tied_embeddings=tied,
    )


def _layer_types(section: Section, layers: int, window: int | None) -> tuple[str, ...]:
    types = section.raw.get("layer_types")
    if types is None:
        return _pattern_types(section, layers, window)
    if not isinstance(types, list) or any(t not in (SLIDING, FULL) for t in types):
        raise CheckpointError(f"{section.where}: layer_types is {types!r}; expected a list of {SLIDING!r} and {FULL!r}")
    # Released configurations name the MTP layer as one more entry.
    if len(types) not in (layers, layers + 1):
        raise CheckpointError(
            f"{section.where}: layer_types has {len(types)} entries for {layers} layers; expected {layers} or, "
            f"with the MTP layer, {layers + 1}"
        )
    if window is None and SLIDING in types:
        raise CheckpointError(f"{section.where}: layer_types names {SLIDING!r} but sliding_window is null")
    return tuple(types[:layers])


def _mtp_type(section: Section, layers: int) -> str | None:
    """The kind of the MTP layer, where `layer_types` (checked already) has an entry for it."""
    types = section.raw.get("layer_types") or []
    return str(types[layers]) if len(types) == layers + 1 else None


def _pattern_types(section: Section, layers: int, window: int | None) -> tuple[str, ...]:
    """Layer types from `sliding_window_pattern`: "LLLG", or 4 for the same."""
    pattern = section.raw.get("sliding_window_pattern", 4)
    if window is None or pattern is None or pattern == 0:
        return (FULL,) * layers
    if isinstance(pattern, str) and pattern and set(pattern) <= {"L", "G"}:
        # The last layer is global whatever the pattern says, as transformers' configuration documents it.
        types = [SLIDING if pattern[i % len(pattern)] == "L" else FULL for i in range(layers)]
        return (*types[:-1], FULL)
    if isinstance(pattern, int) and not isinstance(pattern, bool) and pattern > 0:
        return tuple(SLIDING if (i + 1) % pattern else FULL for i in range(layers))
    raise CheckpointError(
        f"{section.where}: sliding_window_pattern is {pattern!r}; expected L and G such as 'LLLG', or a number"
    )


def _rope(section: Section, max_context: int) -> RopeConfig:
    raw = section.raw.get("rope_scaling") or section.raw.get("rope_parameters") or {}
    if not isinstance(raw, dict):
        raise CheckpointError(f"{section.where}: rope_parameters is {raw!r}; expected an object")
    rope = Section(raw, f"{section.where}: rope_parameters")
    if kinds := [key for key in (SLIDING, FULL) if key in raw]:
        raise CheckpointError(
            f"{rope.where} has a '{kinds[0]}'; EXAONE 4.5 has one rotary embedding: give rope_type, rope_theta, ..."
        )
    theta = rope.number("rope_theta", section.number("rope_theta", 10_000.0))
    kind = raw.get("rope_type", raw.get("type", "default"))
    if raw.get("partial_rotary_factor", section.raw.get("partial_rotary_factor", 1.0)) not in (None, 1.0):
        raise CheckpointError(f"{rope.where}: partial_rotary_factor must be 1.0; EXAONE 4.5 rotates whole heads")
    if kind == "default":
        return RopeConfig(theta)
    if kind != "llama3":
        raise CheckpointError(f"{rope.where}: rope_type is {kind!r}; expected 'llama3' or 'default'")
    config = RopeConfig(
        theta,
        factor=rope.number("factor", None),
        low_freq_factor=rope.number("low_freq_factor", None),
        high_freq_factor=rope.number("high_freq_factor", None),
        original_context=rope.integer("original_max_position_embeddings", max_context, 1),
    )
    if config.high_freq_factor <= config.low_freq_factor:
        raise CheckpointError(
            f"{rope.where}: high_freq_factor is {config.high_freq_factor}; expected more than low_freq_factor, "
            f"{config.low_freq_factor}"
        )
    return config


def _check_heads(where: str, hidden: int, heads: int, kv_heads: int, key: str) -> None:
    if hidden % heads:
        raise CheckpointError(f"{where}: hidden_size {hidden} is no multiple of {key} {heads}")
    if heads % kv_heads:
        raise CheckpointError(f"{where}: {heads} query heads cannot share {kv_heads} kv heads evenly")
