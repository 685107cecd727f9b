"""Try on a GPU what no machine without one can show. One JSON line per step; a step that did not run says so.

Steps: the device; TensorRT (or TensorRT-RTX): compile, load, answers against ONNX Runtime on the CPU, time of a decode
step, memory given back; ONNX Runtime CUDA and torch CUDA against the same answers. `--layers N` adds the real size: the
vision encoder of EXAONE 4.5 33B and N of its layers, random weights, timed beside the roofline of `--preset`.

Ends with 1 if a step that ran was wrong, and with 2 if there is a GPU and no step could run on it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from real_size import real_size

from exaone_ros.engine.backend import Backend, Row
from exaone_ros.engine.backends.onnxruntime import OnnxRuntimeBackend
from exaone_ros.engine.backends.tensorrt import TensorRtBackend
from exaone_ros.engine.backends.torch_reference import TorchBackend
from exaone_ros.engine.presets import preset
from exaone_ros.engine.tensorrt.compile import compile_checkpoint
from exaone_ros.engine.tensorrt.cuda import CudaRuntime
from exaone_ros.engine.tensorrt.plan import Capacity
from exaone_ros.engine.tensorrt.random_checkpoint import layers_of_33b, write_random_checkpoint
from exaone_ros.engine.tensorrt.versions import load_library
from exaone_ros.errors import ExaoneError
from exaone_ros.model.checkpoint import Checkpoint
from exaone_ros.model.precision import precision

CAPACITY = Capacity(slots=4, context=512, chunk=128, visual_tokens=256)
IMAGE_TOKEN = 67
TOLERANCE = {"float16": 2e-2, "bfloat16": 1e-1, "int4": 2e-1}
STEPS = 64
KEPT_MB = 16
"""What may be gone after a second opening and closing: the first leaves kernels loaded, the second must not add."""
INSTALL = "pip install 'exaone_ros[tensorrt]' (or tensorrt-rtx), onnxruntime-gpu and a torch with CUDA"


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
    for step in range(STEPS):
        began = time.perf_counter()
        rows = [Row(slot, len(ids) + step, rng.integers(80, 2000, 1)) for slot in range(3)]
        found += backend.run(rows)
        each.append(1e3 * (time.perf_counter() - began))
    times["decode_step_of_3_p50_ms"] = float(np.median(each))
    return found, {name: round(value, 3) for name, value in times.items()}


class Check:
    """Runs steps and keeps count of what was wrong."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.wrong, self.device, self.on_gpu = 0, False, 0
        backend = OnnxRuntimeBackend(checkpoint.directory, slots=4, context=CAPACITY.context)
        self.expected, times = session(backend)
        backend.close()
        self.say("onnxruntime-cpu", ran=True, ok=True, **times)

    def say(self, step: str, *, ran: bool, ok: bool | None = None, **facts: Any) -> None:
        """Print one line."""
        self.wrong += ran and ok is False
        if step == "device":
            self.device = ran and ok is True
        else:
            self.on_gpu += ran and not step.endswith("-cpu")
        print(json.dumps({"step": step, "ran": ran, "ok": ok, **facts}), flush=True)

    def status(self) -> int:
        """Of the process; says what to install where a GPU was there for nothing."""
        if self.device and not self.on_gpu:
            print(f"no step ran on the GPU: {INSTALL}", file=sys.stderr)
            return 2
        return int(self.wrong > 0)

    def attempt(self, step: str, work: Callable[[], dict[str, Any]]) -> None:
        """Run one step; what the package itself refuses did not run."""
        try:
            facts = work()
        except ExaoneError as error:
            self.say(step, ran=False, reason=str(error))
        except Exception as error:  # of a library: the steps behind it are still to be tried
            self.say(step, ran=True, ok=False, reason=f"{type(error).__name__}: {error}")
        else:
            self.say(step, ran=True, **facts)

    def compare(self, backend: Backend, tolerance: float) -> dict[str, Any]:
        """A backend's answers against those of the CPU."""
        session(backend)  # warm
        found, times = session(backend)
        errors = [np.abs(a - b).max() / np.abs(b).max() for a, b in zip(found, self.expected, strict=True)]
        same = np.mean([a.argmax() == b.argmax() for a, b in zip(found, self.expected, strict=True)])
        worst = float(max(errors))
        return {"ok": worst < tolerance, "largest_error": worst, "same_choice": float(same), **times}

    def tensorrt(self, name: str, root: Path) -> dict[str, Any]:
        """Compile, load, run, compare, close."""
        library, cuda = load_library(), CudaRuntime()
        before = cuda.device()
        began = time.perf_counter()
        compile_checkpoint(self.checkpoint, library, before, precision(name), CAPACITY, root=root)
        built = time.perf_counter()
        load = partial(
            TensorRtBackend, self.checkpoint.directory, slots=4, context=CAPACITY.context, precision=name,
            cache_root=root, library=library, cuda=cuda,
        )  # fmt: skip
        backend = load()
        loaded, during = time.perf_counter(), cuda.device()
        facts = self.compare(backend, TOLERANCE[name])
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
            "kept_after_close_mb": round((before.free_bytes - closed.free_bytes) / 1e6),
            "kept_by_a_second_close_mb": round(kept / 1e6),
        }  # fmt: skip

    def onnxruntime_cuda(self) -> dict[str, Any]:
        return self.compare(OnnxRuntimeBackend(self.checkpoint.directory, slots=4, context=512, device="cuda"), 1e-2)

    def torch_cuda(self) -> dict[str, Any]:
        return self.compare(TorchBackend(self.checkpoint.directory, slots=4, context=512, device="cuda"), 1e-2)


def timed_real_size(folder: Path, layers: int, preset_name: str) -> dict[str, Any]:
    """The real width at some depth; more disk is needed than most temporary folders have, see TMPDIR."""
    return real_size(folder, layers_of_33b(layers), preset(preset_name), load_library(), CudaRuntime())


def main() -> int:
    """Run all steps."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--checkpoint", type=Path, help="default: a small one with random weights")
    parser.add_argument("--layers", type=int, default=0, help="of the real size to time; 2 GB of disk each")
    parser.add_argument("--preset", default="h100", help="precision, capacity and data sheet of the real size")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="exaone_gpu_check_") as name:
        folder = Path(name)
        if options.checkpoint:
            checkpoint = Checkpoint.open(options.checkpoint)
        else:
            checkpoint = write_random_checkpoint(folder / "checkpoint", small_config())
        check = Check(checkpoint)
        check.attempt("device", lambda: {"ok": True, **vars(CudaRuntime().device())})
        for precision_name in TOLERANCE:
            check.attempt(f"tensorrt-{precision_name}", partial(check.tensorrt, precision_name, folder / "engines"))
        check.attempt("onnxruntime-cuda", check.onnxruntime_cuda)
        check.attempt("torch-cuda", check.torch_cuda)
        if options.layers:
            check.attempt("real-size", lambda: timed_real_size(folder, options.layers, options.preset))
    return check.status()


if __name__ == "__main__":
    sys.exit(main())
