"""Time EXAONE 4.5 33B's own vision encoder and some of its layers on a GPU, with random weights; for gpu_check.py."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from exaone_ros.engine.backend import Row
from exaone_ros.engine.backends.tensorrt import TensorRtBackend
from exaone_ros.engine.presets import PROMPT_TOKENS, Preset
from exaone_ros.engine.tensorrt.compile import compile_checkpoint, free_memory
from exaone_ros.engine.tensorrt.cuda import Cuda, Device
from exaone_ros.engine.tensorrt.memory import decoder_weight_bytes, vision_weight_bytes
from exaone_ros.engine.tensorrt.random_checkpoint import layers_of_33b, write_random_checkpoint
from exaone_ros.engine.tensorrt.versions import Library
from exaone_ros.model.config import ModelConfig
from exaone_ros.model.precision import PRECISIONS

RUNS = 8
DECODE_STEPS = 32
IMAGE_SIZE_PX = (480, 640)
LAYERS = 64
"""Of the released model."""
USABLE = 0.9
"""Share of what is free that is planned for: all figures are estimates."""
PRESETS = {"H100": "h100", "H200": "h100", "Orin": "orin-64", "Thor": "thor"}
"""By a part of the GPU's name; `OTHERS` for the rest."""
OTHERS = "rtx-32"


@dataclass(frozen=True)
class Room:
    """Bytes that are free: on the device, in main memory, on the disk of the working folder."""

    device: int
    host: int
    disk: int

    def with_device(self, size: int) -> Room:
        """The same room beside another device."""
        return replace(self, device=size)


def room_here(folder: Path, gpu: Device | None) -> Room:
    """What is free on this machine."""
    return Room(gpu.free_bytes if gpu else 0, free_memory(), shutil.disk_usage(folder).free)


def preset_for(gpu: str) -> str:
    """The preset that describes a GPU best, by its name."""
    return next((name for part, name in PRESETS.items() if part in gpu), OTHERS)


def fitting_layers(preset: Preset, room: Room) -> tuple[int, str]:
    """The most layers of the real size that there is room for, and what stands against one more, in words."""
    limit = f"the released model has {LAYERS}"
    for layers in range(LAYERS, 0, -1):
        config = ModelConfig.parse(layers_of_33b(layers))
        short = _short(preset, config, room)
        if short is None:
            return layers, limit
        limit = f"{layers} would take {short}"
    return 0, limit


def _short(preset: Preset, config: ModelConfig, room: Room) -> str | None:
    """What is short for a model, with both figures; None where nothing is."""
    need, plain = preset.memory(config), PRECISIONS["bfloat16"]
    checkpoint = decoder_weight_bytes(config.text, plain) + vision_weight_bytes(config.vision, 2)
    wanted = (
        ("memory of the device", need.device, room.device),
        ("main memory", need.build_host, room.host),
        ("disk", checkpoint + need.build_disk, room.disk),
    )
    for what, bytes_needed, free in wanted:
        if bytes_needed > USABLE * free:
            return f"{bytes_needed / 1e9:.1f} GB of {what}; {free / 1e9:.1f} GB are free, {USABLE:.0%} of it usable"
    return None


def real_size(
    folder: Path,
    config: dict[str, Any],
    preset: Preset,
    library: Library,
    cuda: Cuda,
    *,
    prompt_tokens: int = PROMPT_TOKENS,
    image_px: tuple[int, int] = IMAGE_SIZE_PX,
) -> dict[str, Any]:
    """Write, compile, load, time, close.

    Args:
        folder: for the checkpoint and the engines; takes twice the size of the weights.
        config: content of config.json; `layers_of_33b`.
        preset: precision and capacity, and the device's figures for what to expect.
        library: that builds and runs.
        cuda: the device.
        prompt_tokens: of the timed prompt.
        image_px: height and width of the timed image.

    Returns:
        Milliseconds of each stage, those of the roofline and how many times these; memory; whether all logits were
        numbers.
    """
    checkpoint = write_random_checkpoint(folder / "real_size", config)
    before, began = cuda.device(), time.perf_counter()
    capacity = preset.capacity_for(checkpoint.config.text.max_context)
    compile_checkpoint(checkpoint, library, before, preset.precision, capacity, root=folder / "engines")
    built = time.perf_counter()
    backend = TensorRtBackend(
        checkpoint.directory, slots=capacity.slots, context=capacity.context, precision=preset.precision.name,
        cache_root=folder / "engines", library=library, cuda=cuda,
    )  # fmt: skip
    loaded, during = time.perf_counter(), cuda.device()
    try:
        finite, times = _times(backend, checkpoint.config, prompt_tokens, image_px)
    finally:
        backend.close()
    expected = preset.speed(checkpoint.config)
    seconds = {"image": expected.image_s, "prompt": expected.prompt_s, "decode_step": expected.token_s}
    roofline = {stage: float(f"{1e3 * value:.4g}") for stage, value in seconds.items()}
    return {
        "ok": finite, "layers": checkpoint.config.text.layers, "vision_blocks": checkpoint.config.vision.depth,
        "precision": preset.precision.name, "library": f"{library.name} {library.version}", "preset": preset.name,
        "times_ms": times, "expected_ms": roofline,
        "times_roofline": {stage: float(f"{times[stage] / roofline[stage]:.3g}") for stage in times},
        "build_s": round(built - began, 1), "load_s": round(loaded - built, 1),
        "device_mb": round((before.free_bytes - during.free_bytes) / 1e6),
        "device_expected_mb": round(preset.memory(checkpoint.config).device / 1e6),
    }  # fmt: skip


def _times(
    backend: TensorRtBackend, config: ModelConfig, prompt_tokens: int, image_px: tuple[int, int]
) -> tuple[bool, dict[str, float]]:
    """Whether all logits were numbers, and median milliseconds of the stages."""
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (*image_px, 3), dtype=np.uint8)
    words = rng.integers(config.image_token + 8, config.text.vocab, prompt_tokens)
    finite = True

    def run(*rows: Row) -> None:
        nonlocal finite
        finite &= all(bool(np.isfinite(logits).all()) for logits in backend.run(rows))

    # The backend waits for an image with the tokens behind it: the same tokens as words, subtracted, leave the image.
    count = backend.encode(picture).count

    def prefix_of_image() -> None:
        image = backend.encode(picture)
        run(Row(0, 0, np.full(count, config.image_token, np.int64), (image,)))

    with_image, without = _median(prefix_of_image), _median(lambda: run(Row(0, 0, np.resize(words, count))))
    found = {
        "image": with_image - without,
        "prompt": _median(lambda: run(Row(0, 0, words))),
    }
    steps = []
    for step in range(DECODE_STEPS):
        began = time.perf_counter()
        run(Row(0, prompt_tokens + step, words[:1]))
        steps.append(time.perf_counter() - began)
    found["decode_step"] = 1e3 * float(np.median(steps[3:]))  # the first ones record the CUDA graph
    return finite, {name: round(value, 3) for name, value in found.items()}


def _median(work: Callable[[], None]) -> float:
    work()
    each = []
    for _ in range(RUNS):
        began = time.perf_counter()
        work()
        each.append(time.perf_counter() - began)
    return 1e3 * float(np.median(each))
