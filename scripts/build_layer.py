"""Build decoder layers of EXAONE 4.5 33B's real size with TensorRT-RTX and say what that takes: one JSON line a depth.

    python scripts/build_layer.py --precision int4-bfloat16 --layers 1 2 3
    python scripts/build_layer.py --layers 1 --vocab 153600 --export-only      # with the real embeddings and head

Needs no GPU. By default the vocabulary is small, so that the layers are what is measured. Writing the checkpoint,
exporting the graph and building the engine each run in a process of their own: each peak is that of its process alone.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from exaone_ros.engine.tensorrt.build import build_engine
from exaone_ros.engine.tensorrt.compile import Job, plan_jobs
from exaone_ros.engine.tensorrt.memory import decoder_activation_bytes, estimate
from exaone_ros.engine.tensorrt.plan import Capacity
from exaone_ros.engine.tensorrt.random_checkpoint import layers_of_33b, write_random_checkpoint
from exaone_ros.engine.tensorrt.versions import load_library
from exaone_ros.model.checkpoint import Checkpoint
from exaone_ros.model.onnx_graph import Weights
from exaone_ros.model.precision import precision

CAPACITY = Capacity(slots=4, context=2048, chunk=512, visual_tokens=1024)
STEPS = ("write", "export", "build")


def peak_mb() -> int:
    """Largest resident size of this process so far."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6)


def decoder_job(folder: Path, precision_name: str) -> Job:
    """Graph and plan of the decoder of the checkpoint that lies in `folder`."""
    checkpoint = Checkpoint.open(folder / "checkpoint")
    library = load_library(["tensorrt_rtx"])
    return plan_jobs(checkpoint, library, None, precision(precision_name), CAPACITY, folder)[1]


def write(folder: Path, layers: int, vocab: int) -> dict[str, Any]:
    """Write random weights."""
    checkpoint = write_random_checkpoint(folder / "checkpoint", layers_of_33b(layers, vocab=vocab, vision_depth=1))
    return {"checkpoint_mb": round(sum(file.stat().st_size for file in checkpoint.files) / 1e6)}


def export(folder: Path, precision_name: str) -> dict[str, Any]:
    """Quantise and write the graph: the part that must not hold the whole model."""
    job = decoder_job(folder, precision_name)
    before, began = peak_mb(), time.perf_counter()
    job.graph.save(folder / "graph.onnx", Weights.FILE)
    return {
        "weights_mb": round(job.graph.weight_bytes / 1e6),
        "export_s": round(time.perf_counter() - began, 1),
        "export_cpu_s": round(time.process_time(), 1),
        "export_peak_mb": peak_mb(),
        "export_start_mb": before,
    }


def build(folder: Path, precision_name: str) -> dict[str, Any]:
    """Parse and build."""
    library, job = load_library(["tensorrt_rtx"]), decoder_job(folder, precision_name)
    checkpoint = Checkpoint.open(folder / "checkpoint")
    need = estimate(checkpoint.config, precision(precision_name), CAPACITY)
    began = time.perf_counter()
    figures: dict[str, int] = {}
    engine = build_engine(library, job.plan, folder / "graph.onnx", report=figures.__setitem__)
    expected = decoder_activation_bytes(checkpoint.config, CAPACITY, precision(precision_name).compute.itemsize)
    return {
        "library": f"{library.name} {library.version}",
        "build_s": round(time.perf_counter() - began, 1),
        "build_peak_mb": peak_mb(),
        "build_expected_mb": round(need.build_host / 1e6),
        "plan_mb": round(engine.nbytes / 1e6),
        "builder_weights_mb": round(figures["weights_bytes"] / 1e6),
        "expected_weights_mb": round(need.decoder_weights / 1e6),
        "builder_activation_mb": round(figures["activation_bytes"] / 1e6),
        "expected_activation_mb": round(expected / 1e6),
    }


def measure(layers: int, options: argparse.Namespace) -> dict[str, Any]:
    """All steps for one depth, each in a process of its own.

    Raises:
        subprocess.CalledProcessError: a step failed; it has said why.
    """
    found: dict[str, Any] = {"layers": layers, "precision": options.precision, "vocab": options.vocab}
    with tempfile.TemporaryDirectory(prefix="exaone_layer_") as folder:
        for step in STEPS[:2] if options.export_only else STEPS:
            command = [sys.executable, __file__, "--step", step, "--folder", folder, "--layers", str(layers)]
            command += ["--precision", options.precision, "--vocab", str(options.vocab)]
            found |= json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return found


def main() -> int:
    """Measure each depth asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--precision", default="int4-bfloat16")
    parser.add_argument("--layers", type=int, nargs="+", default=[1])
    parser.add_argument("--vocab", type=int, default=1024, help="153600 is the real one")
    parser.add_argument("--export-only", action="store_true", help="leave the building out")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step == "write":
        print(json.dumps(write(options.folder, options.layers[0], options.vocab)))
    elif options.step is not None:
        print(json.dumps({"export": export, "build": build}[options.step](options.folder, options.precision)))
    else:
        for layers in options.layers:
            print(json.dumps(measure(layers, options)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
