"""Building one engine from an ONNX file. Needs no GPU with TensorRT-RTX, the target's own GPU with TensorRT."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from exaone_ros.engine.tensorrt.plan import EnginePlan
from exaone_ros.engine.tensorrt.versions import Library
from exaone_ros.errors import EngineError

_log = logging.getLogger(__name__)

Progress = Callable[[str, float], None]
"""Told the phase and how far it is, 0 to 1; called from threads of the builder."""

Report = Callable[[str, int], None]
"""Told the builder's own figures of an engine: "weights_bytes" and "activation_bytes", where the version says them."""

_FIGURE = re.compile(r"Total (Weights|Activation) Memory: (\d+) bytes")
# Says nothing about the graph: int64 inputs are meant.
_HARMLESS = ("Int64 binding", "INT64")


def make_logger(trt: Any) -> Any:
    """A logger of TensorRT that keeps warnings and errors in `messages`, as (severity, text), and what the builder says
    of memory in `figures`."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.messages: list[tuple[str, str]] = []
            self.figures: dict[str, int] = {}

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.WARNING and not any(text in message for text in _HARMLESS):
                self.messages.append((severity.name, message))
            elif found := _FIGURE.search(message):
                self.figures[f"{found[1].lower()}_bytes"] = int(found[2])

    return Logger()


def make_monitor(trt: Any, progress: Progress) -> Any:
    """An IProgressMonitor that reports the outermost phase."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}
            self._outermost: str | None = None

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._steps[phase_name] = max(1, num_steps)
            if parent_phase is None:
                self._outermost = phase_name

        def step_complete(self, phase_name: str, step: int) -> bool:
            if phase_name == self._outermost:
                progress(phase_name, min(1.0, (step + 1) / self._steps[phase_name]))
            return True

        def phase_finish(self, phase_name: str) -> None:
            if phase_name == self._outermost:
                progress(phase_name, 1.0)

    return Monitor()


def build_engine(
    library: Library,
    plan: EnginePlan,
    onnx_path: Path,
    *,
    timing_cache: Path | None = None,
    progress: Progress | None = None,
    report: Report | None = None,
) -> Any:
    """Parse a graph and build its engine.

    Args:
        library: that builds.
        plan: profiles and limits.
        onnx_path: the graph, its weights inside or beside it. Its folder is the build's own, on the disk of the cache.
        timing_cache: file with the timings of kernels; read if there, written again. Not used by TensorRT-RTX, which
            measures on the user's machine.
        progress: told how far the build is.
        report: told what the builder says of the engine's memory.

    Returns:
        The plan as TensorRT's own host memory: a buffer of bytes.

    Raises:
        EngineError: the parser or the builder refuses, or an input of the graph would be ignored; with its messages.
    """
    trt = library.module
    logger = make_logger(trt)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(onnx_path)):
        errors = "; ".join(parser.get_error(i).desc() for i in range(parser.num_errors))
        raise EngineError(f"{library.name} {library.version} cannot parse the {plan.name} graph: {errors[:2000]}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, plan.workspace_bytes)
    if progress is not None:
        config.progress_monitor = make_monitor(trt, progress)
    _add_profiles(builder, config, network, plan)
    cache = _load_timing_cache(config, timing_cache) if library.name == "tensorrt" and timing_cache else None
    engine = builder.build_serialized_network(network, config)
    messages = "; ".join(f"{severity}: {text}" for severity, text in logger.messages)
    if engine is None:
        raise EngineError(f"{library.name} {library.version} cannot build the {plan.name} engine: {messages[:2000]}")
    unused = [text for _, text in logger.messages if "unused input" in text.lower()]
    if unused:
        raise EngineError(f"{library.name} {library.version} ignores inputs of the {plan.name} graph: {unused[0]}")
    if report is not None:
        for name, count in logger.figures.items():
            report(name, count)
    if cache is not None and timing_cache is not None:
        _keep_timings(config, timing_cache, onnx_path.parent)
    return engine


def _keep_timings(config: Any, path: Path, folder: Path) -> None:
    """Put the timings in their place whole: another build may read them now, and this process may be killed."""
    scratch = folder / "timings"
    try:
        scratch.write_bytes(memoryview(config.get_timing_cache().serialize()))
        scratch.replace(path)
    except OSError as error:  # the engine is built; the next build only takes longer
        _log.warning("timings of kernels cannot be kept in %s: %s", path, error)


def _add_profiles(builder: Any, config: Any, network: Any, plan: EnginePlan) -> None:
    inputs = {network.get_input(i).name for i in range(network.num_inputs)}
    for index, wanted in enumerate(plan.profiles):
        if inputs != wanted.shapes.keys():
            raise EngineError(
                f"the {plan.name} graph has the inputs {sorted(inputs)}; profile {index} is for {sorted(wanted.shapes)}"
            )
        profile = builder.create_optimization_profile()
        for name, shapes in wanted.shapes.items():
            profile.set_shape(name, *shapes)
        config.add_optimization_profile(profile)


def _load_timing_cache(config: Any, path: Path) -> Any:
    """The timings that the build begins with: those of the file, where they are whole and of this machine."""
    try:
        cache = config.create_timing_cache(path.read_bytes()) if path.is_file() else None
        if cache is not None and config.set_timing_cache(cache, False):
            return cache
        reason = "they are damaged, or of another machine or version"
    except (OSError, RuntimeError, TypeError, ValueError) as error:  # what the bindings make of a blob that is none
        reason = str(error)
    if path.is_file():
        _log.warning("timings of kernels in %s are not used: %s; they are taken and written anew", path, reason)
    cache = config.create_timing_cache(b"")
    config.set_timing_cache(cache, False)
    return cache
