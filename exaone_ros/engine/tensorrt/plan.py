"""What is built, as data: the shapes that the engines take, and the profiles and settings of each build."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

from exaone_ros.engine.backends.kv_cache import cache_lengths
from exaone_ros.engine.backends.ring import Ring
from exaone_ros.engine.tensorrt.versions import Target
from exaone_ros.errors import EngineError
from exaone_ros.model.config import ModelConfig, TextConfig, VisionConfig
from exaone_ros.model.precision import Precision

Shape = tuple[int, ...]
MIN_CONTEXT = 16
LEAST_SPARE = 128
"""Positions that a sliding-window layer holds beyond its window at least: a refused draft (`LONGEST_DRAFT`) and what a
row was padded by."""

VISION_INPUTS = {
    "patches": 1, "cos": 4, "sin": 4, "pad_index": 8, "unpad_index": 8, "key_mask": 1, "reverse": 8
}  # fmt: skip
DECODER_INPUTS = {
    "input_ids": 8, "visual_row": 8, "position_ids": 8, "write_index": 8, "write_index_local": 8, "mask_global": 1,
    "mask_local": 1, "logit_rows": 8,
}  # fmt: skip
"""Inputs that come from the host, and the bytes of an element."""


@dataclass(frozen=True)
class Capacity:
    """What the engines can hold.

    Attributes:
        slots: KV cache slots; also the largest batch.
        context: tokens of a slot.
        chunk: most tokens of one row in one run; longer prompts are cut.
        visual_tokens: most visual tokens of one image, and of the images of one run.
        decode_profile: build kernels for the decode step beside those for prefill. Costs a second copy of some weights
            (FP16 weights doubled with TensorRT-RTX 1.7; measured). For steps of one token a row only: those with drafts
            run on the kernels for prefill.
    """

    slots: int = 4
    context: int = 2048
    chunk: int = 512
    visual_tokens: int = 1024
    decode_profile: bool = False

    def __post_init__(self) -> None:
        for name, least in (("slots", 1), ("context", MIN_CONTEXT), ("chunk", 1), ("visual_tokens", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise EngineError(f"{name} is {value!r}; expected an integer of at least {least}")
        if self.chunk > self.context:
            raise EngineError(f"chunk is {self.chunk}, more than the context of {self.context}; expected at most that")

    def ring(self, config: TextConfig) -> Ring | None:
        """Of the sliding-window layers' caches; None where they are as long as the context."""
        return Ring.of(config, self.context, max(self.chunk, LEAST_SPARE))

    @property
    def logits(self) -> int:
        """Most tokens of one run that logits come back for."""
        return self.slots * self.logits_per_row

    @property
    def logits_per_row(self) -> int:
        return min(16, self.chunk)


@dataclass(frozen=True)
class Profile:
    """An optimization profile: for each input its smallest, its typical and its largest shape."""

    shapes: Mapping[str, tuple[Shape, Shape, Shape]]


@dataclass(frozen=True)
class EnginePlan:
    """One engine to build.

    Attributes:
        name: "vision" or "decoder".
        opset: of its graph.
        precision: name of its precision.
        profiles: in the order of their index.
        workspace_bytes: most scratch memory of a kernel.
    """

    name: str
    opset: int
    precision: str
    profiles: tuple[Profile, ...]
    workspace_bytes: int

    def as_json(self) -> dict[str, Any]:
        """Plain data, for keys, manifests and golden tests."""
        plain = asdict(self)
        plain["profiles"] = [{k: [list(s) for s in v] for k, v in p.shapes.items()} for p in self.profiles]
        return plain


def plan_engines(
    config: ModelConfig, target: Target, precision: Precision, capacity: Capacity, workspace_bytes: int = 1 << 30
) -> tuple[EnginePlan, EnginePlan]:
    """The engines of a checkpoint: vision and decoder.

    Raises:
        EngineError: the target has no such precision, or the context is beyond the model's.
    """
    if not target.accepts(precision):
        raise EngineError(
            f"precision '{precision.name}' cannot be built by {target.package} {target.since[0]}.{target.since[1]} and "
            f"later; it has float16 or bfloat16 with {', '.join(w.value for w in target.weights)} weights"
        )
    if capacity.context > config.text.max_context:
        raise EngineError(f"context is {capacity.context}; the checkpoint has positions for {config.text.max_context}")
    opset = target.opset_for(precision)
    plain = precision.compute.name
    vision = EnginePlan("vision", target.opset, plain, (_vision_profile(config.vision, capacity),), workspace_bytes)
    lengths = [(1, 1, capacity.chunk)]
    if capacity.decode_profile:
        lengths = [(1, capacity.chunk, capacity.chunk), (1, 1, 1)]
    profiles = tuple(_decoder_profile(config, capacity, length) for length in lengths)
    return vision, EnginePlan("decoder", opset, precision.name, profiles, workspace_bytes)


def host_input_bytes(config: ModelConfig, capacity: Capacity) -> int:
    """Bytes of all inputs that come from the host, each at its largest, of both engines."""
    wanted = (
        (_vision_profile(config.vision, capacity), VISION_INPUTS),
        (_decoder_profile(config, capacity, (1, 1, capacity.chunk)), DECODER_INPUTS),
    )
    return sum(
        prod(profile.shapes[name][2]) * item_bytes
        for profile, sizes in wanted
        for name, item_bytes in sizes.items()
        if name in profile.shapes
    )


def vision_rows(config: VisionConfig, tokens: int) -> tuple[int, int]:
    """Patches of an image of this many visual tokens, and the most windows that it can be cut into.

    A strip one token wide has a window for every `window_tokens` of them.
    """
    return tokens * config.merge**2, -(-tokens // config.window_tokens)


def _vision_profile(c: VisionConfig, capacity: Capacity) -> Profile:
    # Typical: an image of 640 x 480, resized to 644 x 476.
    typical = min(391, capacity.visual_tokens)
    typical_windows = max(1, round(typical / c.window_tokens**2 * 1.2))
    sizes = [(1, 1), (typical, typical_windows), (capacity.visual_tokens, vision_rows(c, capacity.visual_tokens)[1])]

    def shapes(tokens: int, windows: int) -> dict[str, Shape]:
        rows = tokens * c.merge**2
        return {
            "patches": (rows, c.channels * c.patch**2),
            "cos": (rows, c.head_dim // 2),
            "sin": (rows, c.head_dim // 2),
            "pad_index": (windows * c.window_patches,),
            "unpad_index": (rows,),
            "key_mask": (windows, 1, 1, c.window_patches),
            "reverse": (tokens,),
        }

    return _profile(*(shapes(*size) for size in sizes))


def _decoder_profile(config: ModelConfig, capacity: Capacity, lengths: tuple[int, int, int]) -> Profile:
    c, ring = config.text, capacity.ring(config.text)
    lengths_of = cache_lengths(c, capacity.context, ring)
    local = ring.length if ring else capacity.context

    def shapes(rows: int, length: int, visual: int, logits: int) -> dict[str, Shape]:
        found: dict[str, Shape] = {
            "input_ids": (rows, length),
            "visual": (visual, c.hidden),
            "visual_row": (rows, length),
            "position_ids": (rows, length),
        }
        sliding = {c.is_sliding(layer) for layer in range(c.layers)}
        if ring is None or False in sliding:
            found["write_index"] = (rows,)
        if ring is not None:
            found["write_index_local"] = (rows,)
        found |= {"mask_local": (rows, 1, length, local)} if True in sliding else {}
        found |= {"mask_global": (rows, 1, length, capacity.context)} if False in sliding else {}
        found["logit_rows"] = (logits,)
        return found | {f"past_{name}": (rows, c.kv_heads, n, c.head_dim) for name, n in lengths_of.items()}

    typical = min(391, capacity.visual_tokens) if lengths[1] > 1 else 1
    return _profile(
        shapes(1, lengths[0], 1, 1),
        shapes(1, lengths[1], typical, 1),
        shapes(capacity.slots, lengths[2], capacity.visual_tokens, capacity.logits),
    )


def _profile(least: dict[str, Shape], typical: dict[str, Shape], most: dict[str, Shape]) -> Profile:
    return Profile({name: (least[name], typical[name], most[name]) for name in least})
