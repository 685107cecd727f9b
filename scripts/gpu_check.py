"""Try on a GPU what no machine without one can show, one JSON line per step: `make gpu-check`.

Does its own set-up first (`gpu_setup.py`) where there is a GPU. Every step is a process of its own: one that fails,
hangs or is killed by the driver says so in its line, and the others go on. `--plan` lists the steps with the memory to
expect and runs none; it needs no GPU.

Ends with 1 if a step that ran was wrong, and with 2 if there is a GPU and no step could run on it.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from gpu_table import write_section

SCRIPTS = Path(__file__).resolve().parent
ROOT = SCRIPTS.parent
LIBRARIES = ("tensorrt", "tensorrt_rtx")
PRECISIONS = ("float16", "bfloat16", "int8", "int4", "fp8", "nvfp4")
CPU, DEVICE, REAL_SIZE = "onnxruntime-cpu", "device", "real-size"
ON_TENSORRT = tuple(f"{library}-{precision}" for library in LIBRARIES for precision in PRECISIONS)
STEPS = (DEVICE, CPU, *ON_TENSORRT, "onnxruntime-cuda", "torch-cuda", REAL_SIZE)
INSTALL = "pip install 'exaone_ros[tensorrt]' (or tensorrt-rtx), onnxruntime-gpu and a torch with CUDA"
ATTEMPTS = 3
"""At the real size; each with half of the layers of the one before."""
FIT = "fit"

Line = dict[str, Any]


def no_gpu() -> str | None:
    """Why there is no GPU to be used, asked of the driver alone; None where there is one."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        return f"no NVIDIA driver: {error}"
    count = ctypes.c_int()
    status = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if status or not count.value:
        return f"the NVIDIA driver finds no GPU (CUDA error {status})"
    return None


def run_step(name: str, command: Sequence[str], environment: Mapping[str, str], limit_s: float, log: Path) -> Line:
    """Run one step in a process of its own; its line, whatever becomes of it.

    A step may print a line before it begins what may kill it: what that says is kept.
    """
    line: Line = {"step": name, "ran": True}
    with log.open("w+", encoding="utf-8", errors="replace") as errors:
        process = subprocess.Popen(
            command, env=dict(environment), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors,
            encoding="utf-8", errors="replace", start_new_session=True,
        )  # fmt: skip
        try:
            said, _ = process.communicate(timeout=limit_s)
            reason = how_it_ended(process.returncode)
        except BaseException as error:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # with all that it has started: they hold the pipe, too
            said, _ = process.communicate()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            reason = f"did not end within {limit_s:.0f} s"
        for text in said.splitlines():
            line |= line_in(text)
        if "ok" in line and process.returncode == 0:
            return line
        errors.seek(0)
        tail = " | ".join(errors.read().splitlines()[-4:])
    return {**line, "ok": False, "reason": f"{reason}: {tail[-600:]}"}


def line_in(text: str) -> Line:
    """What a step says in a line of its output; nothing where that is of a library, or was cut off by its end."""
    try:
        return dict(json.loads(text)) if text.startswith('{"step"') else {}
    except ValueError:
        return {}


def how_it_ended(status: int) -> str:
    """An exit status in words."""
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"ended with {status}"


def fewer_layers(line: Line, layers: str) -> str | None:
    """With how many layers the real size is worth another try; None where it is not."""
    count = line.get("layers") or (int(layers) if layers != FIT else 0)
    wrong = line["ran"] and line["ok"] is False
    return str(count // 2) if wrong and count > 1 and "times_ms" not in line else None


def status_of(lines: Sequence[Line]) -> int:
    """Of the process; says what to install where a GPU was there for nothing."""
    device = any(line["step"] == DEVICE and line["ran"] and line["ok"] for line in lines)
    on_gpu = any(line["ran"] for line in lines if line["step"] in STEPS and line["step"] not in (DEVICE, CPU))
    if device and not on_gpu:
        print(f"no step ran on the GPU: {INSTALL}", file=sys.stderr)
        return 2
    return int(any(line["ran"] and line["ok"] is False for line in lines))


def planned(options: argparse.Namespace) -> Iterator[Line]:
    """The steps and what to expect of each; nothing runs."""
    expected: Mapping[str, Line] = {}
    unknown: Line = {}
    sys.path.insert(0, str(ROOT))
    try:
        from gpu_steps import expectations

        expected = expectations(options.preset, options.layers)
    except ImportError as error:
        unknown = {"expected": f"not known before the set-up: {error}"}
    for name in options.only or STEPS:
        yield {"step": name, "ran": False, "ok": None, "reason": "only planned", **expected.get(name, unknown)}


def checked(options: argparse.Namespace) -> Iterator[Line]:
    """Run the steps; their lines as they come."""
    missing = no_gpu()
    if missing is not None:
        for name in options.only or STEPS:
            yield {"step": name, "ran": False, "ok": None, "reason": missing}
        return
    from gpu_setup import prepare_gpu

    machine = prepare_gpu(install=not options.no_install)
    yield {"step": "setup", "ran": True, "ok": None, "python": str(machine.python), "missing": machine.missing}
    with tempfile.TemporaryDirectory(prefix="exaone_gpu_check_") as name:
        folder = Path(name)

        def attempt(step: str, layers: str) -> Line:
            command = [str(machine.python), str(SCRIPTS / "gpu_steps.py"), step, "--folder", name, "--layers", layers]
            command += ["--preset", options.preset] if options.preset else []
            command += ["--checkpoint", str(options.checkpoint)] if options.checkpoint else []
            return run_step(step, command, machine.variables(step), options.limit_s, folder / "errors.txt")

        for step in options.only or STEPS:
            layers = options.layers
            if step == REAL_SIZE and layers == "0":
                yield {"step": step, "ran": False, "ok": None, "reason": "--layers 0"}
                continue
            for _ in range(ATTEMPTS):
                line = attempt(step, layers)
                yield line
                fewer = fewer_layers(line, layers) if step == REAL_SIZE else None
                if fewer is None:
                    break
                layers = fewer


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--plan", action="store_true", help="list the steps with the memory to expect; run none")
    parser.add_argument("--only", nargs="+", choices=STEPS, metavar="STEP", help=f"any of {', '.join(STEPS)}")
    parser.add_argument("--checkpoint", type=Path, help="default: a small one with random weights")
    parser.add_argument("--layers", default=FIT, help="of the real size; 'fit': as many as there is room for; 0: none")
    parser.add_argument("--preset", help="precision, capacity and data sheet of the real size (default: by the GPU)")
    parser.add_argument("--limit-s", type=float, default=3600.0, help="seconds that a step may take (default 3600)")
    parser.add_argument("--no-install", action="store_true", help="use what is installed, as without a network")
    parser.add_argument("--docs", type=Path, help="page to put the results into (docs/benchmarks.md)")
    options = parser.parse_args(arguments)
    if options.layers != FIT and not options.layers.isdigit():
        parser.error(f"--layers is {options.layers!r}; expected a number or '{FIT}'")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run or list all steps; returns the exit status."""
    options = parse(arguments)
    lines = []
    for line in planned(options) if options.plan else checked(options):
        print(json.dumps(line), flush=True)
        lines.append(line)
    if options.docs and not options.plan:
        if any(line["ran"] for line in lines):
            write_section(options.docs, lines)
        else:
            print(f"nothing ran, so {options.docs} stays as it is", file=sys.stderr)
    return status_of(lines)


if __name__ == "__main__":
    sys.exit(main())
