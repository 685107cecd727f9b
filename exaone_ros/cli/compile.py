"""Turn a checkpoint into TensorRT engines, kept in a cache."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exaone_ros.engine.presets import Preset, preset, preset_names
from exaone_ros.errors import EngineError, require

if TYPE_CHECKING:
    from exaone_ros.model.awq import InputScales
    from exaone_ros.model.checkpoint import Checkpoint
    from exaone_ros.model.precision import Precision


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `exaone compile`."""
    parser.add_argument("checkpoint", type=Path, help="Hugging Face directory of an EXAONE 4.5 checkpoint")
    parser.add_argument("--preset", default="default", help=f"one of {', '.join(preset_names())}")
    parser.add_argument("--precision", help="of the decoder: float16, bfloat16, int4, int4-bfloat16, fp8, ...")
    parser.add_argument("--slots", type=int, help="KV cache slots, also the largest batch")
    parser.add_argument("--context", type=int, help="tokens of a slot")
    parser.add_argument("--chunk", type=int, help="most tokens of one row in one run")
    parser.add_argument("--visual-tokens", type=int, help="most visual tokens of one image")
    parser.add_argument("--decode-profile", action="store_true", default=None, help="kernels of its own for decoding")
    parser.add_argument(
        "--library",
        dest="package",
        choices=["tensorrt", "tensorrt_rtx"],
        help="default: $EXAONE_TENSORRT, or the first that is installed; the backend looks for the same",
    )
    parser.add_argument("--device", type=int, default=0, help="number of the CUDA device")
    parser.add_argument("--cache", type=Path, help="folder of the engines (default: $EXAONE_ENGINES or ~/.cache)")
    parser.add_argument(
        "--calibrate",
        type=Path,
        metavar="FRAMES",
        help="folder of typical camera images, or .npy of uint8 RGB [N,H,W,3]: search AWQ-style scales on them",
    )
    parser.add_argument("--calibration-frames", type=int, default=16, help="of them at most (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=0, help="of the calibration; 0 = one per core")
    parser.add_argument("--rebuild", action="store_true", help="build even if there are engines")
    parser.add_argument(
        "--force",
        action="store_true",
        help="build even if memory or disk seem too little: it may fail, or the system may kill it or other programs",
    )


def chosen_preset(options: argparse.Namespace) -> Preset:
    """The preset, with what the command line says in its place.

    Raises:
        EngineError: an unknown preset or precision, or sizes that make no sense.
    """
    fields = ("precision", "slots", "context", "chunk", "visual_tokens", "decode_profile")
    return preset(options.preset).replaced(
        **{f: getattr(options, f) for f in fields if getattr(options, f) is not None}
    )


def run(options: argparse.Namespace) -> int:
    """Compile; returns the exit status."""
    require("onnx", "tensorrt")
    from exaone_ros.engine.tensorrt.cache import default_root
    from exaone_ros.engine.tensorrt.compile import check_build, compile_checkpoint
    from exaone_ros.engine.tensorrt.cuda import CudaRuntime
    from exaone_ros.engine.tensorrt.versions import load_library
    from exaone_ros.model.checkpoint import Checkpoint

    wanted = chosen_preset(options)
    checkpoint = Checkpoint.open(options.checkpoint)
    library = load_library([options.package] if options.package else ())
    device = None
    try:
        device = CudaRuntime(options.device).device()
    except EngineError:
        if library.name == "tensorrt":
            raise
    where = device.name if device else "no GPU here; the engines load on the robot's"
    capacity = wanted.capacity_for(checkpoint.config.text.max_context)
    print(f"{library.name} {library.version}, {where}: {wanted.precision.name}, {capacity}")
    with _Bar() as bar:
        scales = None
        if options.calibrate is not None:
            root = options.cache or default_root()
            sizes = (wanted.precision, capacity, root)
            check = partial(check_build, checkpoint, library, device, *sizes, force=options.force)
            scales = _calibrated(checkpoint, wanted.precision, options, bar, check)
        compiled = compile_checkpoint(
            checkpoint,
            library,
            device,
            wanted.precision,
            capacity,
            scales=scales,
            root=options.cache,
            rebuild=options.rebuild,
            force=options.force,
            progress=bar.show,
        )
    for path in (compiled.vision, compiled.decoder):
        print(f"{'built' if compiled.built else 'found'} {path} ({path.stat().st_size / 1e6:.1f} MB)")
    return 0


def _calibrated(
    checkpoint: Checkpoint, precision: Precision, options: argparse.Namespace, bar: _Bar, check: Callable[[], None]
) -> InputScales:
    """AWQ-style scales searched on the frames that the command line names, or found in the cache."""
    from exaone_ros.engine.calibration import read_frames
    from exaone_ros.engine.tensorrt.cache import default_root
    from exaone_ros.engine.tensorrt.compile import remembered_fingerprint
    from exaone_ros.engine.tensorrt.scales import calibrated_scales

    frames = read_frames(options.calibrate, options.calibration_frames)
    root = options.cache or default_root()
    fingerprint = remembered_fingerprint(checkpoint, root)
    return calibrated_scales(
        checkpoint,
        precision,
        frames,
        root,
        fingerprint,
        threads=options.threads,
        progress=bar.show,
        before_search=check,
    )


class _Bar:
    """One line of progress, rewritten in place on a terminal and left out elsewhere."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._width = 0

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: Any) -> None:
        if self._width:
            print(file=sys.stderr)

    def show(self, phase: str, done: float) -> None:
        if not self._terminal:
            return
        line = f"\r[{'#' * int(30 * done):<30}] {done:4.0%} {phase}"[:110]
        print(line.ljust(self._width), end="", file=sys.stderr, flush=True)
        self._width = len(line)
