"""Time EXAONE 4.5 33B's own vision encoder and some of its layers on a GPU, with random weights; for gpu_check.py."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from exaone_ros.engine.backend import Row
from exaone_ros.engine.backends.tensorrt import TensorRtBackend
from exaone_ros.engine.presets import PROMPT_TOKENS, Preset
from exaone_ros.engine.tensorrt.compile import compile_checkpoint
from exaone_ros.engine.tensorrt.cuda import Cuda
from exaone_ros.engine.tensorrt.random_checkpoint import write_random_checkpoint
from exaone_ros.engine.tensorrt.versions import Library
from exaone_ros.model.config import ModelConfig

RUNS = 8
DECODE_STEPS = 32
IMAGE_SIZE_PX = (480, 640)


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
        Milliseconds of each stage beside those of the roofline, memory, and whether all logits were numbers.
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
    return {
        "ok": finite, "layers": checkpoint.config.text.layers, "vision_blocks": checkpoint.config.vision.depth,
        "precision": preset.precision.name, "library": f"{library.name} {library.version}", **times,
        "expected_ms": {
            "image": round(1e3 * expected.image_s, 2), "prompt": round(1e3 * expected.prompt_s, 2),
            "decode_step": round(1e3 * expected.token_s, 3), "of": preset.name,
        },
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
        "image_ms": with_image - without,
        "prompt_ms": _median(lambda: run(Row(0, 0, words))),
    }
    steps = []
    for step in range(DECODE_STEPS):
        began = time.perf_counter()
        run(Row(0, prompt_tokens + step, words[:1]))
        steps.append(time.perf_counter() - began)
    found["decode_step_ms"] = 1e3 * float(np.median(steps[3:]))  # the first ones record the CUDA graph
    return finite, {name: round(value, 3) for name, value in found.items()}


def _median(work: Callable[[], None]) -> float:
    work()
    each = []
    for _ in range(RUNS):
        began = time.perf_counter()
        work()
        each.append(time.perf_counter() - began)
    return 1e3 * float(np.median(each))
