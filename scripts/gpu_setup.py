"""Make a Python for the checks on a GPU: an environment of its own with what can be had, and a list of what cannot.

Nothing here is fatal. Without a network, or where a package has no wheel for this machine, the steps that need it say
so. A TensorRT that the system brings (JetPack) is seen from inside the environment.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from provision.environment import REQUIREMENTS, ROOT
from provision.report import ProvisionError, Report
from provision.stamp import Stamps, exclusive, fingerprint
from provision.wheels import pip_install, without_ros

ENVIRONMENT = ROOT / ".venv-gpu"
ONNXRUNTIME_GPU = "onnxruntime-gpu"
GROUPS = (("system", "runtime"), ("tensorrt",), ("tensorrt-rtx",), ("reference",), (ONNXRUNTIME_GPU,))
"""Requirement files that are installed together; each lot may fail. The first is what everything else needs."""
BROUGHT_BY = {"tensorrt": "tensorrt", "reference": "torch"}
"""Modules that make a group needless where the system has them."""


@dataclass(frozen=True)
class GpuMachine:
    """A Python to run the steps with.

    Attributes:
        python: the interpreter.
        folder: of its environment; None where it is the one that is installed already.
        missing: what could not be installed, by the name of the group, with the reason.
    """

    python: Path
    folder: Path | None
    missing: dict[str, str]

    def variables(self, step: str) -> dict[str, str]:
        """The environment variables of a step: ONNX Runtime for the GPU takes the place of that for the CPU in one."""
        if self.folder is None:
            return dict(os.environ)
        variables = without_ros(os.environ)
        overlay = self.folder / ONNXRUNTIME_GPU
        if step == "onnxruntime-cuda" and overlay.is_dir():
            variables["PYTHONPATH"] = str(overlay)
        # Where wheels keep CUDA and TensorRT: the loader does not look there by itself.
        packages = list(self.folder.glob("lib/python*/site-packages"))
        libraries = [p for folder in packages for p in folder.glob("nvidia/*/lib")]
        libraries += [p for folder in packages for p in folder.glob("tensorrt*_libs")]
        found = [*map(str, libraries), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
        if found:
            variables["LD_LIBRARY_PATH"] = os.pathsep.join(found)
        return variables


def prepare_gpu(
    *, install: bool = True, folder: Path = ENVIRONMENT, groups: Sequence[tuple[str, ...]] = GROUPS
) -> GpuMachine:
    """Bring the environment to what the groups say, as far as that can be had.

    Args:
        install: False: use the environment as it is, or this Python where there is none.
        folder: of the environment.
        groups: requirement files, by the lots in which they are installed.
    """
    python = folder / "bin" / "python"
    if not install:
        there = python.is_file()
        return GpuMachine(python if there else Path(sys.executable), folder if there else None, {})
    missing: dict[str, str] = {}
    report = Report(ROOT / ".venv-setup.log", sys.stderr)
    try:
        with exclusive(folder):
            _make(folder, report)
            for group in groups:
                reason = _install(folder, group, report)
                if reason is not None:
                    missing["+".join(group)] = reason
    except ProvisionError as error:
        return GpuMachine(Path(sys.executable), None, {"environment": str(error)})
    finally:
        report.close()
    if "+".join(groups[0]) in missing:  # without a network: this Python may have it all
        return GpuMachine(Path(sys.executable), None, missing)
    return GpuMachine(python, folder, missing)


def _make(folder: Path, report: Report) -> None:
    stamps, mark = Stamps(folder), f"{platform.python_version()} {sys.base_prefix} {folder}"
    if (folder / "bin" / "python").is_file() and stamps.is_done("python", mark):
        return
    with report.step(f"Making {folder.name} (Python {platform.python_version()})") as step:
        command = [sys.executable, "-m", "venv", "--clear", "--system-site-packages", str(folder)]
        step.run(command, advice="install the venv module of this Python (Debian: python3-venv), then run this again.")
    stamps.done("python", mark)


def _install(folder: Path, group: Sequence[str], report: Report) -> str | None:
    """Install one lot; the reason where that did not work."""
    python, name = folder / "bin" / "python", "+".join(group)
    files = [REQUIREMENTS / f"{part}.txt" for part in group]
    stamps, mark = Stamps(folder), fingerprint(files)
    if stamps.is_done(name, mark):
        return None
    if group[0] in BROUGHT_BY and _imports(python, BROUGHT_BY[group[0]]):
        return None
    # One package's two builds cannot lie in the same folder.
    options = ["--target", str(folder / ONNXRUNTIME_GPU), "--no-deps", "--upgrade"] if name == ONNXRUNTIME_GPU else []
    try:
        with report.step(f"Installing {name}") as step:
            pip_install(step, python, without_ros(os.environ), files, *options)
    except ProvisionError as error:
        return _short(str(error))
    stamps.done(name, mark)
    return None


def _short(reason: str) -> str:
    """What pip says was wrong, or else the first line; the whole of it is in the log."""
    lines = [line.strip() for line in reason.splitlines()]
    return next((line for line in reversed(lines) if line.startswith("ERROR")), lines[0])


def _imports(python: Path, module: str) -> bool:
    return subprocess.run([str(python), "-c", f"import {module}"], capture_output=True, check=False).returncode == 0
