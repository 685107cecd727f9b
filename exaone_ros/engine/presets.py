"""Settings for the machines that EXAONE 4.5 runs on, from `config/presets.yaml`, with the memory they take."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

import yaml

from exaone_ros.engine.tensorrt.memory import MemoryEstimate, decoder_weight_bytes, estimate, vision_weight_bytes
from exaone_ros.engine.tensorrt.plan import Capacity
from exaone_ros.errors import EngineError
from exaone_ros.model.config import ModelConfig
from exaone_ros.model.precision import PRECISIONS, Precision
from exaone_ros.share import share_path

PRESETS_FILE = "config/presets.yaml"
IMAGE_TOKENS = 391
"""Visual tokens of an image of 640 x 480."""
PROMPT_TOKENS = 500
MEANT_FOR = 1.1
"""A device may report this much less memory than its name says and still be of the size that a preset is meant for."""
MFU, BANDWIDTH_USE = 0.5, 0.75
"""Shares of the data sheets' figures that well-written kernels reach."""


@dataclass(frozen=True)
class Speed:
    """Expected seconds, computed: of encoding an image of 640 x 480, of 500 tokens of prompt, of one decode step."""

    image_s: float
    prompt_s: float
    token_s: float

    def __str__(self) -> str:
        image, prompt, token = (_ms(value) for value in (self.image_s, self.prompt_s, self.token_s))
        return f"a 640x480 image {image}, {PROMPT_TOKENS} tokens of prompt {prompt}, a token {token}"


def _ms(seconds: float) -> str:
    """Milliseconds; below one, launching kernels decides, which this does not know."""
    return f"{seconds * 1e3:.0f} ms" if seconds >= 1e-3 else "below 1 ms"


@dataclass(frozen=True)
class Preset:
    """How to compile for a kind of machine.

    Attributes:
        name: in the file.
        machine: in words.
        device_gb: memory of the device that it is meant for; on a Jetson shared with everything else.
        precision: of the decoder.
        capacity: what the engines hold.
        aliased_kv: whether the TensorRT of that machine writes caches in place.
        bandwidth_gb_s: of the device's memory, from its data sheet.
        tflops: dense products in half precision, from its data sheet.
        install: what has to be installed.
        unified_memory: the device computes in main memory, as a Jetson's does.
    """

    name: str
    machine: str
    device_gb: float
    precision: Precision
    capacity: Capacity
    aliased_kv: bool
    bandwidth_gb_s: float
    tflops: float
    install: str
    unified_memory: bool = False

    def replaced(self, **changes: Any) -> Preset:
        """The preset with another precision (by name) or other fields of `Capacity`.

        Raises:
            EngineError: an unknown precision, or sizes that make no sense.
        """
        name = changes.pop("precision", self.precision.name)
        capacity = Capacity(**{**{f.name: getattr(self.capacity, f.name) for f in fields(Capacity)}, **changes})
        return replace(self, precision=_precision(name, self.name), capacity=capacity)

    def capacity_for(self, max_context: int) -> Capacity:
        """The capacity, no longer than a checkpoint's positions."""
        c = self.capacity
        context = min(c.context, max_context)
        return Capacity(c.slots, context, min(c.chunk, context), c.visual_tokens, c.decode_profile)

    def memory(self, config: ModelConfig) -> MemoryEstimate:
        """What a model takes with this preset."""
        capacity = self.capacity_for(config.text.max_context)
        return estimate(config, self.precision, capacity, aliased_kv=self.aliased_kv, unified=self.unified_memory)

    def speed(self, config: ModelConfig) -> Speed:
        """What to expect: a roofline, not a measurement.

        A decode step reads all weights but the embeddings at 75% of the memory's bandwidth; image and prompt are
        products at 50% of the arithmetic. Weights are quantised, arithmetic is not: it is half precision throughout.
        """
        item, text, vision = self.precision.compute.itemsize, config.text, config.vision
        embeddings = text.vocab * text.hidden * item
        read = self.memory(config).decoder_weights - embeddings
        flops = MFU * self.tflops * 1e12
        layers = decoder_weight_bytes(text, PRECISIONS[self.precision.compute.name]) - 2 * embeddings
        patches = vision_weight_bytes(vision, item) * vision.merge**2
        return Speed(
            image_s=2 * IMAGE_TOKENS * patches / item / flops,
            prompt_s=2 * PROMPT_TOKENS * layers / item / flops,
            token_s=read / (BANDWIDTH_USE * self.bandwidth_gb_s * 1e9),
        )


def preset(name: str) -> Preset:
    """A preset by its name.

    Raises:
        EngineError: there is none of this name.
    """
    if name not in _presets():
        raise EngineError(f"preset is {name!r}; expected one of {', '.join(_presets())}")
    return _presets()[name]


def preset_names() -> tuple[str, ...]:
    """Names of all presets."""
    return tuple(_presets())


def fitting_presets(config: ModelConfig, device_bytes: int) -> list[Preset]:
    """Presets with which a model fits into the memory of a device, the most accurate first.

    Those that are meant for larger devices are left out: what just fits may want what smaller devices do not have.
    """
    fitting = (p for p in _presets().values() if p.memory(config).device < 0.9 * device_bytes)
    found = [p for p in fitting if p.device_gb * 1e9 <= MEANT_FOR * device_bytes]
    return sorted(found, key=lambda p: p.memory(config).decoder_weights, reverse=True)


@lru_cache(maxsize=1)
def _presets() -> dict[str, Preset]:
    path = share_path(PRESETS_FILE)
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {name: _parse(name, entry) for name, entry in raw.items()}


def _parse(name: str, entry: dict[str, Any]) -> Preset:
    known = {field.name for field in fields(Capacity)}
    try:
        return Preset(
            name=name,
            machine=entry.pop("machine"),
            device_gb=float(entry.pop("device_gb")),
            precision=_precision(entry.pop("precision"), name),
            aliased_kv=bool(entry.pop("aliased_kv")),
            bandwidth_gb_s=float(entry.pop("bandwidth_gb_s")),
            tflops=float(entry.pop("tflops")),
            install=entry.pop("install"),
            unified_memory=bool(entry.pop("unified_memory", False)),
            capacity=Capacity(**{key: entry.pop(key) for key in sorted(known & entry.keys())}),
        )
    except KeyError as error:
        raise EngineError(f"{PRESETS_FILE}: preset '{name}' lacks {error}") from error


def _precision(name: str, where: str) -> Precision:
    if name not in PRECISIONS:
        raise EngineError(f"preset '{where}': precision is {name!r}; expected one of {', '.join(PRECISIONS)}")
    return PRECISIONS[name]
