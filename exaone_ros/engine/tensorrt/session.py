"""One deserialised engine with its buffers: every shape is checked against its profile before TensorRT sees it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from exaone_ros.engine.tensorrt.build import make_logger
from exaone_ros.engine.tensorrt.plan import Shape
from exaone_ros.engine.tensorrt.versions import Library
from exaone_ros.errors import EngineError

Failure = Callable[[str], EngineError]
"""Makes an error of what went wrong and of what TensorRT said."""


class Execution:
    """One execution context of an engine, on one profile and one stream."""

    def __init__(
        self, context: Any, inputs: Sequence[str], outputs: Sequence[str], stream: int, failed: Failure
    ) -> None:
        """Args: the context, its profile chosen and its memory given; names of the engine's inputs and outputs."""
        self._context, self._inputs, self._names = context, inputs, (*inputs, *outputs)
        self._stream, self._failed = stream, failed

    def enqueue(self, shapes: Mapping[str, Shape], addresses: Mapping[str, int]) -> None:
        """Put one run on the stream. Addresses must stay valid until the stream got there.

        Raises:
            EngineError: TensorRT refuses a shape, an address or the run.
        """
        context = self._context
        for name in self._inputs:
            if not context.set_input_shape(name, shapes[name]):
                raise self._failed(f"TensorRT refuses shape {shapes[name]} of {name}")
        for name in self._names:
            if not context.set_tensor_address(name, addresses[name]):
                raise self._failed(f"TensorRT refuses address {addresses[name]:#x} of {name}")
        if not context.execute_async_v3(self._stream):
            raise self._failed("TensorRT cannot run the engine")


class EngineSession:
    """Runs one engine on one stream. An execution context for each profile, so that switching costs nothing.

    What the contexts compute in (`scratch_bytes`) is given to them by `use_scratch`, before the first run: runs on one
    stream follow each other, so all contexts of all engines on it can share one block.
    """

    def __init__(self, library: Library, plan: Path, stream: int) -> None:
        """Load an engine.

        Raises:
            EngineError: TensorRT does not take it, on this GPU or at all; with its messages.
        """
        trt = library.module
        self._stream = stream
        self._unmanaged = trt.ExecutionContextAllocationStrategy.USER_MANAGED
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
        self._scratch = 0
        self._executions: list[Execution] = []

    @property
    def scratch_bytes(self) -> int:
        """Device memory that a run computes in, the largest of all profiles."""
        return int(self._engine.device_memory_size_v2)

    def use_scratch(self, address: int) -> None:
        """Let runs compute in `scratch_bytes` at this address, aligned to 256 bytes.

        Raises:
            EngineError: TensorRT cannot create the execution contexts.
        """
        self._scratch = address
        self._executions = [self.execution(profile) for profile in range(len(self._ranges))]

    def execution(self, profile: int) -> Execution:
        """A further execution context: one that can be recorded and then left alone.

        Raises:
            EngineError: TensorRT cannot create it.
        """
        context = self._engine.create_execution_context(self._unmanaged)
        if context is None:
            raise self._error("TensorRT cannot create an execution context; is there enough GPU memory?")
        context.set_device_memory(self._scratch, self.scratch_bytes)
        if not context.set_optimization_profile_async(profile, self._stream):
            raise self._error(f"TensorRT refuses optimization profile {profile}")
        return Execution(context, self._inputs, self._outputs, self._stream, self._error)

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
        """Put one run on the stream with the context of a profile; see `Execution.enqueue`."""
        self._executions[profile].enqueue(shapes, addresses)

    def close(self) -> None:
        """Free the engine, contexts first. May be called twice."""
        self._executions.clear()
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
