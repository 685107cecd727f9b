"""CUDA graphs of the runs that repeat: one for each set of shapes and addresses, kept until others are used more."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass

from exaone_ros.engine.tensorrt.cuda import Cuda
from exaone_ros.engine.tensorrt.plan import Shape
from exaone_ros.engine.tensorrt.session import EngineSession, Execution

KEPT_GRAPHS = 16
"""Enough for the numbers of rows and tokens that come again and again: with twice as many, hardly more is replayed."""
STEP_TOKENS = 9
"""Longest rows of a run that may come again: a token, and the drafts behind it that the perception node asks for."""


@dataclass
class _Step:
    """A run that was seen: once, then with an execution context of its own, then recorded."""

    execution: Execution | None = None
    graph: int | None = None


class StepGraphs:
    """Runs the steps of one engine, from their second repetition on as CUDA graphs.

    A graph holds shapes and addresses as they were when it was recorded, and TensorRT asks that the execution context
    that it was recorded from be left alone. So each graph has a context of its own, made when its step comes for the
    second time; that run is a plain one, which TensorRT wants before it lets new shapes be recorded. A step with other
    shapes or at another address is another step: it is recorded anew and never replayed from the wrong graph.

    Not thread-safe. The stream must be idle when `run` is called: it may free the graph that was not used longest.

    Args:
        cuda, stream: where.
        session: the engine.
        most: graphs kept.
    """

    def __init__(self, cuda: Cuda, stream: int, session: EngineSession, most: int = KEPT_GRAPHS) -> None:
        self._cuda, self._stream, self._session, self._most = cuda, stream, session, most
        self._steps: OrderedDict[Hashable, _Step] = OrderedDict()

    def run(
        self,
        shapes: Mapping[str, Shape],
        addresses: Mapping[str, int],
        *,
        before: Callable[[], None],
        after: Callable[[], None],
        variant: Hashable,
    ) -> None:
        """Put one run on the stream, plainly or as a graph.

        Args:
            shapes: of the inputs.
            addresses: of inputs and outputs; they must stay valid until the stream got there.
            before, after: copies around the engine's run, part of the graph.
            variant: whatever else `before` and `after` depend on.

        Raises:
            EngineError: TensorRT refuses a shape, an address or the run.
        """
        key = (variant, tuple(shapes.items()), tuple(addresses.items()))
        profile = self._session.profile_for(shapes)
        step = self._steps.get(key)
        if step is None:  # what comes once is not worth a context
            self._remember(key)
            before()
            self._session.enqueue(profile, shapes, addresses)
            after()
            return
        self._steps.move_to_end(key)
        if step.graph is None:
            first = step.execution is None
            execution = step.execution = step.execution or self._session.execution(profile)

            def work() -> None:
                before()
                execution.enqueue(shapes, addresses)
                after()

            if first:
                work()
                return
            step.graph = self._cuda.capture(work, self._stream)
        self._cuda.launch(step.graph, self._stream)

    def close(self) -> None:
        """Free all graphs, then their contexts. May be called twice."""
        while self._steps:
            self._forget_oldest()

    def _remember(self, key: Hashable) -> None:
        while len(self._steps) >= self._most:
            self._forget_oldest()
        self._steps[key] = _Step()

    def _forget_oldest(self) -> None:
        _, step = self._steps.popitem(last=False)
        if step.graph is not None:
            self._cuda.free_graph(step.graph)
