"""One deserialised engine with its buffers: every shape is checked against its profile before TensorRT sees it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from exaone_ros.engine.tensorrt.build import make_logger
from exaone_ros.engine.tensorrt.plan import Shape
from exaone_ros.engine.tensorrt.versions import Library
from exaone_ros.errors import EngineError


class EngineSession:
    """Runs one engine on one stream. An execution context for each profile, so that switching costs nothing."""

    def __init__(self, library: Library, plan: Path, stream: int) -> None:
        """Load an engine.

        Raises:
            EngineError: TensorRT does not take it, on this GPU or at all; with its messages.
        """
        trt = library.module
        self._stream = stream
        self._logger = make_logger(trt)
        self._runtime = trt.Runtime(self._logger)
        engine = self._runtime.deserialize_cuda_engine(plan.read_bytes())
        if engine is None:
            raise self._error(f"{library.name} {library.version} cannot load {plan}")
        self._engine = engine
        self._inputs: list[str] = []
        self._outputs: list[str] = []
        for index in range(engine.num_io_tensors):
            name = engine.get_tensor_name(index)
            is_input = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
            (self._inputs if is_input else self._outputs).append(name)
        self._ranges = [
            {name: tuple(map(tuple, engine.get_tensor_profile_shape(name, profile))) for name in self._inputs}
            for profile in range(engine.num_optimization_profiles)
        ]
        self._contexts = [self._context(profile) for profile in range(engine.num_optimization_profiles)]

    def _context(self, profile: int) -> Any:
        context = self._engine.create_execution_context()
        if context is None:
            raise self._error("TensorRT cannot create an execution context; is there enough GPU memory?")
        if not context.set_optimization_profile_async(profile, self._stream):
            raise self._error(f"TensorRT refuses optimization profile {profile}")
        return context

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(self._inputs)

    @property
    def outputs(self) -> tuple[str, ...]:
        return tuple(self._outputs)

    def largest(self, name: str) -> Shape:
        """The largest shape of an input over all profiles."""
        return max((ranges[name][2] for ranges in self._ranges), key=_volume)

    def profile_for(self, shapes: Mapping[str, Shape]) -> int:
        """The last profile that takes these shapes: narrower ones come later.

        Raises:
            EngineError: none does; names the input.
        """
        reasons = []
        for profile in reversed(range(len(self._ranges))):
            wrong = next((name for name in self._inputs if not _fits(shapes[name], self._ranges[profile][name])), None)
            if wrong is None:
                return profile
            least, _, most = self._ranges[profile][wrong]
            reasons.append(f"profile {profile} takes {wrong} from {list(least)} to {list(most)}")
        raise EngineError(f"shapes {dict(shapes)!r:.300} fit no profile: {'; '.join(reasons)}")

    def enqueue(self, profile: int, shapes: Mapping[str, Shape], addresses: Mapping[str, int]) -> None:
        """Put one run on the stream. Addresses must stay valid until the stream got there.

        Raises:
            EngineError: TensorRT refuses a shape, an address or the run.
        """
        context = self._contexts[profile]
        for name in self._inputs:
            if not context.set_input_shape(name, shapes[name]):
                raise self._error(f"TensorRT refuses shape {shapes[name]} of {name}")
        for name in (*self._inputs, *self._outputs):
            if not context.set_tensor_address(name, addresses[name]):
                raise self._error(f"TensorRT refuses address {addresses[name]:#x} of {name}")
        if not context.execute_async_v3(self._stream):
            raise self._error("TensorRT cannot run the engine")

    def close(self) -> None:
        """Free the engine, contexts first. May be called twice."""
        self._contexts.clear()
        self._engine = self._runtime = None

    def _error(self, what: str) -> EngineError:
        messages = "; ".join(text for _, text in self._logger.messages[-5:])
        return EngineError(f"{what}: {messages[:1500] or 'no reason given'}")


def _fits(shape: Shape, allowed: tuple[Shape, ...]) -> bool:
    least, _, most = allowed
    return len(shape) == len(least) and all(a <= n <= b for a, n, b in zip(least, shape, most, strict=True))


def _volume(shape: Shape) -> int:
    total = 1
    for size in shape:
        total *= size
    return total
