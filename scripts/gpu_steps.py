"""The steps of `make gpu-check`, one in each process: prints one JSON line that says what was found.

python scripts/gpu_steps.py tensorrt-int4 --folder /tmp/check
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from gpu_check import CPU, DEVICE, FIT, LIBRARIES, ON_TENSORRT, PRECISIONS, REAL_SIZE, STEPS
from real_size import Room, fitting_layers, preset_for, real_size, room_here

from exaone_ros.engine.backend import Backend, Row
from exaone_ros.engine.presets import preset
from exaone_ros.engine.tensorrt.compile import compile_checkpoint
from exaone_ros.engine.tensorrt.cuda import Cuda, CudaRuntime
from exaone_ros.engine.tensorrt.memory import CONTEXT_BYTES, decoder_weight_bytes, estimate, vision_weight_bytes
from exaone_ros.engine.tensorrt.plan import Capacity
from exaone_ros.engine.tensorrt.random_checkpoint import layers_of_33b, write_random_checkpoint
from exaone_ros.engine.tensorrt.versions import Library, load_library
from exaone_ros.errors import EngineError, ExaoneError
from exaone_ros.model.checkpoint import Checkpoint
from exaone_ros.model.config import ModelConfig
from exaone_ros.model.precision import FLOAT32, Precision, precision

CAPACITY = Capacity(slots=4, context=512, chunk=128, visual_tokens=256)
IMAGE_TOKEN = 67
TOLERANCE = dict.fromkeys(PRECISIONS, 5e-2) | {"bfloat16": 1e-1}
"""Largest error over largest logit, against the same rounded weights and the same half precision on the CPU: what is
left is the order in which a GPU adds up."""
EXACT = 1e-2
STEPS_TIMED = 64
KEPT_MB = 16
"""What may be gone after a second opening and closing: the first leaves kernels loaded, the second must not add."""

Facts = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """What the steps are about.

    Attributes:
        folder: to work in, shared by all steps.
        checkpoint: directory; None: a small one with random weights, written where it is not there yet.
        preset: of the real size; None: by the device's name.
        layers: of the real size, or "fit".
    """

    folder: Path
    checkpoint: Path | None = None
    preset: str | None = None
    layers: str = FIT

    def open(self) -> Checkpoint:
        if self.checkpoint is not None:
            return Checkpoint.open(self.checkpoint)
        small = self.folder / "checkpoint"
        return Checkpoint.open(small) if small.is_dir() else write_random_checkpoint(small, small_config())


def small_config() -> dict[str, Any]:
    """A model of four layers whose heads have the sizes of the real one's."""
    kinds = ["sliding_attention"] * 3 + ["full_attention"]
    text = {
        "model_type": "exaone4", "vocab_size": 2048, "hidden_size": 512, "intermediate_size": 1024, "head_dim": 128,
        "num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 2, "sliding_window": 64,
        "layer_types": kinds, "max_position_embeddings": 4096,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}, "hidden_act": "silu", "rms_norm_eps": 1e-5,
    }  # fmt: skip
    vision = {
        "model_type": "exaone4_5_vision", "depth": 4, "hidden_size": 512, "intermediate_size": 1024, "num_heads": 8,
        "num_key_value_heads": 2, "out_hidden_size": 512, "fullatt_block_indexes": [1, 3], "patch_size": 14,
        "spatial_merge_size": 2, "temporal_patch_size": 2, "window_size": 112,
    }  # fmt: skip
    return {"model_type": "exaone4_5", "image_token_id": IMAGE_TOKEN, "text_config": text, "vision_config": vision}


def session(backend: Backend) -> tuple[list[np.ndarray], dict[str, float]]:
    """Logits of an image, a prompt and teacher-forced decode steps of three slots, and the times of it in ms."""
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (224, 336, 3), dtype=np.uint8)
    times: dict[str, float] = {}
    began = time.perf_counter()
    image = backend.encode(picture)
    ids = np.concatenate([[1, 73], [IMAGE_TOKEN] * image.count, [74], rng.integers(80, 2000, 30)]).astype(np.int64)
    found = backend.run([Row(0, 0, ids, (image,), 1)])
    times["image_and_prefill_ms"] = 1e3 * (time.perf_counter() - began)
    backend.copy(0, [1, 2], len(ids))
    each = []
    for step in range(STEPS_TIMED):
        began = time.perf_counter()
        rows = [Row(slot, len(ids) + step, rng.integers(80, 2000, 1)) for slot in range(3)]
        found += backend.run(rows)
        each.append(1e3 * (time.perf_counter() - began))
    times["decode_step_of_3_p50_ms"] = float(np.median(each))
    return found, {name: round(value, 3) for name, value in times.items()}


def reference(checkpoint: Checkpoint, chosen: Precision = FLOAT32) -> tuple[list[np.ndarray], dict[str, float]]:
    """The CPU's answers: of the weights as this precision rounds them, every operator rounded as it rounds."""
    from exaone_ros.engine.backends.onnxruntime import OnnxRuntimeBackend

    backend = OnnxRuntimeBackend(checkpoint.directory, slots=4, context=CAPACITY.context, precision=chosen)
    try:
        return session(backend)
    finally:
        backend.close()


def compare(backend: Backend, expected: list[np.ndarray], tolerance: float) -> Facts:
    """A backend's answers against those of the CPU, and its times."""
    session(backend)  # warm
    found, times = session(backend)
    errors = [np.abs(a - b).max() / np.abs(b).max() for a, b in zip(found, expected, strict=True)]
    same = np.mean([a.argmax() == b.argmax() for a, b in zip(found, expected, strict=True)])
    worst = float(max(errors))  # NaN is not below anything
    return {"ok": worst < tolerance, "largest_error": worst, "same_choice": float(same), **times}


def tensorrt(settings: Settings, library: Library, cuda: Cuda, name: str) -> Facts:
    """Compile, load, run, compare, close, and see that closing gives the memory back."""
    from exaone_ros.engine.backends.tensorrt import TensorRtBackend

    checkpoint, chosen, root = settings.open(), precision(name), settings.folder / "engines"
    before = cuda.device()
    began = time.perf_counter()
    compile_checkpoint(checkpoint, library, before, chosen, CAPACITY, root=root)
    built = time.perf_counter()
    load = partial(
        TensorRtBackend, checkpoint.directory, slots=4, context=CAPACITY.context, precision=name, cache_root=root,
        library=library, cuda=cuda,
    )  # fmt: skip
    backend = load()
    loaded, during = time.perf_counter(), cuda.device()
    expected, _ = reference(checkpoint, chosen)
    facts = compare(backend, expected, TOLERANCE[name])
    own_mb = round(backend.device_bytes / 1e6)
    backend.close()
    closed = cuda.device()
    again = load()
    session(again)
    again.close()
    kept = closed.free_bytes - cuda.device().free_bytes
    facts["ok"] = facts["ok"] and kept <= KEPT_MB * 1e6
    return {
        **facts, "library": f"{library.name} {library.version}", "build_s": round(built - began, 1),
        "load_s": round(loaded - built, 1), "device_mb": round((before.free_bytes - during.free_bytes) / 1e6),
        "device_expected_mb": round(small_need(name).device / 1e6), "backend_mb": own_mb,
        "kept_after_close_mb": round((before.free_bytes - closed.free_bytes) / 1e6),
        "kept_by_a_second_close_mb": round(kept / 1e6),
    }  # fmt: skip


def small_need(name: str) -> Any:
    """Memory to expect of the small model."""
    return estimate(ModelConfig.parse(small_config()), precision(name), CAPACITY)


def device() -> Facts:
    """Which GPU."""
    return {"ok": True, **vars(CudaRuntime().device())}


def on_cpu(settings: Settings) -> Facts:
    """What the others are compared with, and its times."""
    return {"ok": True, **reference(settings.open())[1]}


def onnxruntime_cuda(settings: Settings) -> Facts:
    """ONNX Runtime with its CUDA provider."""
    from exaone_ros.engine.backends.onnxruntime import OnnxRuntimeBackend
    from exaone_ros.errors import require

    runtime = require("onnxruntime", "gpu")
    if hasattr(runtime, "preload_dlls"):  # finds the CUDA that came with torch
        runtime.preload_dlls()
    checkpoint = settings.open()
    backend = OnnxRuntimeBackend(checkpoint.directory, slots=4, context=CAPACITY.context, device="cuda")
    return compare(backend, reference(checkpoint)[0], EXACT)


def torch_cuda(settings: Settings) -> Facts:
    """The reference backend on CUDA."""
    from exaone_ros.engine.backends.torch_reference import TorchBackend

    checkpoint = settings.open()
    backend = TorchBackend(checkpoint.directory, slots=4, context=CAPACITY.context, device="cuda")
    return compare(backend, reference(checkpoint)[0], EXACT)


def timed_real_size(settings: Settings, library: Library, cuda: Cuda, room: Room | None = None) -> Facts:
    """The real width at the depth that there is room for. More disk is needed than most temporary folders have."""
    gpu = cuda.device()
    chosen = preset(settings.preset or preset_for(gpu.name))
    room = room or room_here(settings.folder, gpu)
    most, limit = fitting_layers(chosen, room)
    layers = most if settings.layers == FIT else int(settings.layers)
    if not layers:
        raise EngineError(f"not one layer of the real size fits: {limit}; TMPDIR names another disk")
    facts: Facts = {"layers": layers, "limited_by": limit, "preset": chosen.name}
    print(json.dumps({"step": REAL_SIZE, **facts}), flush=True)  # kept if the system kills this process
    try:
        return facts | real_size(settings.folder, layers_of_33b(layers), chosen, library, cuda)
    except Exception as error:  # of a library: how many layers were too many has to be said
        return {**facts, "ok": False, "reason": f"{type(error).__name__}: {error}"}


def expectations(preset_name: str | None, layers: str) -> dict[str, Facts]:
    """What to expect of each step, in MB of device memory.

    Uses no GPU. Where there is none, one of the memory that the preset is for is assumed, empty.
    """
    config = ModelConfig.parse(small_config())
    weights = decoder_weight_bytes(config.text, FLOAT32) + vision_weight_bytes(config.vision, 4)
    plain = {"expected_device_mb": round((weights + CONTEXT_BYTES) / 1e6)}
    found: dict[str, Facts] = {DEVICE: {"expected_device_mb": 0}, CPU: {"expected_device_mb": 0}}
    for step in ON_TENSORRT:
        need = small_need(step.rpartition("-")[2])
        found[step] = {"expected_device_mb": round(need.device / 1e6), "tolerance": TOLERANCE[step.rpartition("-")[2]]}
    found |= {"onnxruntime-cuda": plain, "torch-cuda": plain}
    try:
        found[REAL_SIZE] = _real_size_expected(preset_name, layers)
    except EngineError as error:  # no such preset
        found[REAL_SIZE] = {"reason": str(error)}
    return found


def _real_size_expected(preset_name: str | None, layers: str) -> Facts:
    try:
        gpu = CudaRuntime().device()
        chosen, room = preset(preset_name or preset_for(gpu.name)), room_here(Path.cwd(), gpu)
    except EngineError:
        chosen = preset(preset_name or preset_for(""))
        room = room_here(Path.cwd(), None).with_device(int(chosen.device_gb * 1e9))
    most, limit = fitting_layers(chosen, room)
    count = most if layers == FIT else int(layers)
    found: Facts = {"preset": chosen.name, "layers": count, "limited_by": limit}
    if count:
        need = chosen.memory(ModelConfig.parse(layers_of_33b(count)))
        found |= {
            "expected_device_mb": round(need.device / 1e6),
            "of_it_mb": {name: round(size / 1e6) for name, size in need.items().items()},
            "build_host_mb": round(need.build_host / 1e6),
        }
    return found


def work_of(step: str, settings: Settings) -> Callable[[], Facts]:
    """What a step does.

    Raises:
        ExaoneError: (from the work) this machine lacks what it takes.
    """
    if step in ON_TENSORRT:
        library, _, name = step.rpartition("-")
        return lambda: tensorrt(settings, load_library([library]), CudaRuntime(), name)
    works: dict[str, Callable[[], Facts]] = {
        DEVICE: device,
        CPU: partial(on_cpu, settings),
        "onnxruntime-cuda": partial(onnxruntime_cuda, settings),
        "torch-cuda": partial(torch_cuda, settings),
        REAL_SIZE: lambda: timed_real_size(settings, load_library(LIBRARIES), CudaRuntime()),
    }
    return works[step]


def line_of(step: str, work: Callable[[], Facts]) -> Facts:
    """Do the work; its line. What the package itself refuses did not run."""
    try:
        return {"step": step, "ran": True, **work()}
    except ExaoneError as error:
        return {"step": step, "ran": False, "ok": None, "reason": str(error)}
    except Exception as error:
        return {"step": step, "ran": True, "ok": False, "reason": f"{type(error).__name__}: {error}"}


def main() -> None:
    """Run one step."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--preset")
    parser.add_argument("--layers", default=FIT)
    options = parser.parse_args()
    settings = Settings(options.folder, options.checkpoint, options.preset, options.layers)
    print(json.dumps(line_of(options.step, work_of(options.step, settings))), flush=True)


if __name__ == "__main__":
    main()
