"""Build decoder layers of EXAONE 4.5 33B's real size with TensorRT-RTX and say what that takes: one JSON line a depth.

    python scripts/build_layer.py --precision int4-bfloat16 --layers 1 2

Needs no GPU. The vocabulary is small, so that the layers are what is measured. Each depth is built in a process of its
own: peak memory is that of the whole process.
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

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from exaone_ros.engine.tensorrt.build import build_engine
from exaone_ros.engine.tensorrt.compile import plan_jobs
from exaone_ros.engine.tensorrt.plan import Capacity
from exaone_ros.engine.tensorrt.random_checkpoint import layers_of_33b, write_random_checkpoint
from exaone_ros.engine.tensorrt.versions import load_library
from exaone_ros.model.onnx_graph import Weights
from exaone_ros.model.precision import precision


def peak_bytes() -> int:
    """Largest resident size of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(layers: int, precision_name: str) -> dict[str, object]:
    """Write random layers, build them, and measure."""
    library = load_library(["tensorrt_rtx"])
    capacity = Capacity(slots=4, context=2048, chunk=512, visual_tokens=1024)
    with tempfile.TemporaryDirectory(prefix="exaone_layer_") as name:
        folder = Path(name)
        config = layers_of_33b(layers, vocab=1024, vision_depth=1)
        checkpoint = write_random_checkpoint(folder / "checkpoint", config)
        _, job = plan_jobs(checkpoint, library, None, precision(precision_name), capacity, folder)
        began = time.perf_counter()
        job.graph.save(folder / "graph.onnx", Weights.FILE)
        exported, export_peak = time.perf_counter(), peak_bytes()
        engine = build_engine(library, job.plan, folder / "graph.onnx")
        return {
            "layers": layers,
            "precision": precision_name,
            "library": f"{library.name} {library.version}",
            "weights_mb": round(job.graph.weight_bytes / 1e6),
            "export_s": round(exported - began, 1),
            "export_peak_mb": round(export_peak / 1e6),
            "build_s": round(time.perf_counter() - exported, 1),
            "peak_mb": round(peak_bytes() / 1e6),
            "plan_mb": round(engine.nbytes / 1e6),
        }


def main() -> int:
    """Measure each depth asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--precision", default="int4-bfloat16")
    parser.add_argument("--layers", type=int, nargs="+", default=[1])
    parser.add_argument("--alone", action="store_true", help="measure in this process")
    options = parser.parse_args()
    for layers in options.layers:
        if options.alone:
            print(json.dumps(measure(layers, options.precision)), flush=True)
            continue
        command = [sys.executable, __file__, "--alone", "--precision", options.precision, "--layers", str(layers)]
        if subprocess.run(command, check=False).returncode:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
