"""Say what this machine has, whether a checkpoint is whole, and which preset fits."""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from exaone_ros.errors import ExaoneError, MissingExtra

if TYPE_CHECKING:
    from exaone_ros.model.checkpoint import Checkpoint
    from exaone_ros.model.config import ModelConfig


USABLE = 0.9
"""Share of a device's memory that engines may take."""
NO_GPU = (
    "install NVIDIA's driver if there is a GPU (and see that nvidia-smi finds it). Only TensorRT engines and device "
    "'cuda' need one: onnxruntime answers on the CPU"
)
NO_TENSORRT = "install it where you mean to use it: only the backend 'tensorrt' needs it"


LEGEND = "ok: in order   --: not here, and needed for some things only   !!: broken, mend it first"


class Verdict(Enum):
    """How bad a finding is."""

    GOOD = "ok"
    NOTE = "--"
    """Not there, and not needed for everything."""
    BAD = "!!"


@dataclass(frozen=True)
class Finding:
    """One line of the report; `remedy` says what to do where something is missing, `note` what else to know."""

    verdict: Verdict
    what: str
    found: str
    remedy: str = ""
    note: str = ""

    def __str__(self) -> str:
        remedy = f"\n        -> {self.remedy}" if self.remedy else ""
        note = f"\n        {self.note}" if self.note else ""
        return f"  {self.verdict.value}  {self.what:<12} {self.found}{note}{remedy}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `exaone doctor`."""
    parser.add_argument("checkpoint", nargs="?", type=Path, help="Hugging Face directory to look at")
    parser.add_argument("--cache", type=Path, help="folder of the engines (default: $EXAONE_ENGINES or ~/.cache)")


def run(options: argparse.Namespace) -> int:
    """Print the report; 1 if something is broken, 0 if things are only missing."""
    print(LEGEND)
    findings = []
    for finding in machine(options.cache):
        print(finding)
        findings.append(finding)
    for finding in checkpoint(options.checkpoint, options.cache) if options.checkpoint else ():
        print(finding)
        findings.append(finding)
    broken = sum(finding.verdict is Verdict.BAD for finding in findings)
    missing = sum(finding.verdict is Verdict.NOTE for finding in findings)
    print(f"{broken or 'nothing'} broken, {missing or 'nothing'} missing: each with what to do behind its arrow")
    if not options.checkpoint:
        print("for a checkpoint, and what it would take on which machine: exaone doctor DIRECTORY")
    return int(broken > 0)


def machine(cache: Path | None = None) -> Iterator[Finding]:
    """What this machine has."""
    yield Finding(
        Verdict.GOOD, "system", f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    )
    yield _ros()
    yield _guarded("GPU", _gpu, NO_GPU)
    yield _guarded("TensorRT", _tensorrt, NO_TENSORRT)
    for module, extra in (("onnxruntime", "cpu"), ("llguidance", "cpu"), ("torch", "torch")):
        yield _module(module, extra)
    yield _guarded("memory", _memory, "run it on Linux: nothing else is supported")
    yield _disk(cache)


def checkpoint(directory: Path, cache: Path | None = None) -> Iterator[Finding]:
    """Whether a checkpoint is whole, what each preset takes and gives, and whether this machine can build it."""
    try:
        from exaone_ros.engine.presets import preset, preset_names
        from exaone_ros.model.checkpoint import Checkpoint
        from exaone_ros.model.preprocess import PreprocessConfig

        opened = Checkpoint.open(directory)
        PreprocessConfig.read(directory, opened.config.vision)
    except ExaoneError as error:
        yield Finding(Verdict.BAD, "checkpoint", str(error), "fetch the named file again, or give another directory")
        return
    size = sum(tensor.length for tensor in opened.tensors.values()) / 1e9
    text = opened.config.text
    yield Finding(
        Verdict.GOOD,
        "checkpoint",
        f"{directory}: {len(opened.tensors)} tensors, {size:.2f} GB in {opened.dtype}, {text.layers} layers, "
        f"positions up to {text.max_context}",
    )
    missing = [
        name
        for name in ("tokenizer.json", "chat_template.jinja")
        if not (directory / name).is_file() and not _template_inside(directory, name)
    ]
    for name in missing:
        yield Finding(Verdict.BAD, name, "is missing", f"copy it from where {directory.name} was published")
    if not missing:
        yield _prompts(opened)
    yield _drafting(opened)
    yield Finding(
        Verdict.GOOD,
        "presets",
        f"what TensorRT engines of it would take and give on which machine, computed: exaone compile {directory} "
        "--preset NAME",
    )
    for name in preset_names():
        chosen = preset(name)
        need = chosen.memory(opened.config)
        fits = need.device < USABLE * chosen.device_gb * 1e9
        yield Finding(
            Verdict.GOOD if fits else Verdict.NOTE,
            name,
            f"{chosen.machine}: {chosen.precision.name}, {need.device / 1e9:.1f} of {chosen.device_gb:.0f} GB",
            "" if fits else "choose fewer slots, a shorter context or int4",
            f"{', '.join(f'{what} {_size(size)}' for what, size in need.items().items())}\n"
            f"        {chosen.speed(opened.config)} [computed]\n        install: {chosen.install}",
        )
    yield from _here(opened.config, cache)


def _prompts(opened: Checkpoint) -> Finding:
    """Whether questions can be put to the checkpoint: what the weights' headers say nothing of."""
    from exaone_ros.model.chat import PromptEncoder

    try:
        PromptEncoder.open(opened.directory, opened.config)
    except MissingExtra as error:
        return Finding(Verdict.NOTE, "prompts", "were not tried", str(error))
    except ExaoneError as error:
        return Finding(Verdict.BAD, "prompts", str(error), "fetch the named file again")
    return Finding(Verdict.GOOD, "prompts", "tokenizer and chat template can be read, and fit together")


def _drafting(opened: Checkpoint) -> Finding:
    """Which backends can draft with the checkpoint."""
    if not opened.has_mtp:
        found = "no MTP layer: drafts come from earlier answers only"
    else:
        found = "has an MTP layer: onnxruntime and torch draft with it; the backend tensorrt cannot, and refuses mtp"
    return Finding(Verdict.GOOD, "drafting", found)


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _here(config: ModelConfig, cache: Path | None) -> Iterator[Finding]:
    """Which presets fit this machine's GPU, and whether engines can be built here."""
    from exaone_ros.engine.presets import fitting_presets
    from exaone_ros.engine.tensorrt.cache import default_root
    from exaone_ros.engine.tensorrt.compile import check_resources, free_memory
    from exaone_ros.engine.tensorrt.cuda import CudaRuntime

    try:
        device = CudaRuntime().device()
    except ExaoneError:
        yield Finding(
            Verdict.NOTE,
            "fits here",
            "no preset: this machine has no GPU",
            "compile and run on the robot; here the backend onnxruntime answers on the CPU (make demo shows it)",
        )
        return
    fitting = fitting_presets(config, device.total_bytes)
    if not fitting:
        remedy = "take a quantised precision (--precision int4-bfloat16), fewer slots or a shorter context"
        yield Finding(Verdict.NOTE, "fits here", f"no preset on {device.name}", remedy)
        return
    best = fitting[0]
    yield Finding(Verdict.GOOD, "fits here", f"{', '.join(p.name for p in fitting)} on {device.name}")
    try:
        check_resources(best.memory(config), cache or default_root(), device, free_memory(), best.precision)
    except ExaoneError as error:
        yield Finding(Verdict.NOTE, "to build", str(error), f"make room, or build preset {fitting[-1].name}")
        return
    need = best.memory(config)
    yield Finding(
        Verdict.GOOD,
        "to build",
        f"{best.name} takes {need.build_disk / 1e9:.1f} GB of disk and {need.build_host / 1e9:.1f} GB of main memory: "
        f"exaone compile --preset {best.name}",
    )


def _template_inside(directory: Path, name: str) -> bool:
    """Older checkpoints keep the chat template in a JSON file: its own, or the tokenizer's configuration."""
    places = [directory / file for file in ("chat_template.json", "tokenizer_config.json")]
    return name.startswith("chat_template") and any(
        place.is_file() and b'"chat_template"' in place.read_bytes() for place in places
    )


def _guarded(what: str, look: Callable[[], str], otherwise: str) -> Finding:
    try:
        return Finding(Verdict.GOOD, what, look())
    except ExaoneError as error:
        return Finding(Verdict.NOTE, what, str(error), otherwise)


def _ros() -> Finding:
    distribution = os.environ.get("ROS_DISTRO")
    if importlib.util.find_spec("rclpy") is not None:
        return Finding(Verdict.GOOD, "ROS 2", distribution or "rclpy without a sourced distribution (the PyPI wheels)")
    remedy = "source /opt/ros/<distribution>/setup.bash, or let `make setup` install the wheels"
    return Finding(Verdict.NOTE, "ROS 2", "rclpy is not importable", remedy)


def _gpu() -> str:
    from exaone_ros.engine.tensorrt.cuda import CudaRuntime

    device = CudaRuntime().device()
    major, minor = device.capability
    return f"{device.name}, sm_{major}{minor}, {device.free_bytes / 1e9:.1f} of {device.total_bytes / 1e9:.1f} GB free"


def _tensorrt() -> str:
    from exaone_ros.engine.tensorrt.versions import CHOICE, installed_libraries, load_library

    library = load_library()
    others = [name for name in installed_libraries() if name != library.name]
    other = f" ({others[0]} is installed, too: {CHOICE}={others[0]} chooses it)" if others else ""
    return f"{library.name} {library.version}{other}; how far it was tried here: {library.target.note}"


def _module(name: str, extra: str) -> Finding:
    if importlib.util.find_spec(name) is None:
        return Finding(Verdict.NOTE, name, "not installed", f"pip install 'exaone_ros[{extra}]'")
    return Finding(Verdict.GOOD, name, "installed")


def _memory() -> str:
    from exaone_ros.engine.tensorrt.compile import free_memory

    return f"{free_memory() / 1e9:.1f} GB of main memory free"


def _disk(cache: Path | None) -> Finding:
    from exaone_ros.engine.tensorrt.cache import default_root

    root = cache or default_root()
    folder = next(path for path in (root, *root.parents) if path.exists())
    free = f"{shutil.disk_usage(folder).free / 1e9:.1f} GB free for engines in {root}"
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        return Finding(
            Verdict.BAD, "disk", f"{folder} cannot be written", "name another with --cache or EXAONE_ENGINES"
        )
    return Finding(Verdict.GOOD, "disk", free)
