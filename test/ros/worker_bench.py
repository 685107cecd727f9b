"""A worker with a clock that is set by hand, cameras that are fed by hand, and everything it publishes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from fake_engine import FakeEngine

from exaone_ros.ros.asking import Asker
from exaone_ros.ros.camera import Camera
from exaone_ros.ros.engine_keeper import EngineKeeper
from exaone_ros.ros.freshness import Freshness
from exaone_ros.ros.look import Publication
from exaone_ros.ros.meter import Meter
from exaone_ros.ros.once import OnceLog
from exaone_ros.ros.schedule import TaskBoard
from exaone_ros.ros.worker import PerceptionWorker
from exaone_ros.tasks import Decide, Ground, StandingTask

S = 1_000_000_000
PATIENCE_S = 60.0
TASKS = (
    StandingTask(Ground(name="objects")),
    StandingTask(Decide(name="way", instruction="Is the way clear?", options=("clear", "blocked"))),
)


class Log:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, message: str) -> None:
        self.lines.append(message)

    warning = error = info


class Bench:
    """See the module."""

    def __init__(
        self,
        engine: Any,
        tasks: tuple[StandingTask, ...] = TASKS,
        max_age_s: float = 1.0,
        cameras: Sequence[str] = ("",),
        concurrent_looks: int = 1,
        restart_after: int = 0,
        max_asks: int = 4,
        opener: Callable[[], Any] | None = None,
    ) -> None:
        self.engine, self.now_ns = engine, 1000 * S
        self.log = Log()
        self.published: list[Publication] = []
        self.changed = threading.Condition()
        self.on_publish: Callable[[Publication], None] = lambda publication: None
        once, meter = OnceLog(self.log), self._meter()
        self.meter = meter

        def freshness() -> Freshness:
            return Freshness(round(max_age_s * S), S // 4)

        self.cameras = {
            name: Camera(name, self._read, freshness, lambda: self.now_ns, self._meter(), once, kept=8)
            for name in cameras
        }
        self.board = TaskBoard(tasks, tuple(cameras))
        self.keeper = EngineKeeper(opener or (lambda: engine), lambda: restart_after, meter, once)
        self.asker = Asker(self.cameras, self.keeper, lambda: self.now_ns, lambda: max_asks, lambda: S // 20)
        self.worker = PerceptionWorker(
            tuple(self.cameras.values()),
            self.board,
            self.keeper,
            freshness=freshness,
            now_ns=lambda: self.now_ns,
            publish=self._publish,
            meter=meter,
            log=once,
            asker=self.asker,
            real_time=False,
            concurrent_looks=concurrent_looks,
        )

    def _meter(self) -> Meter:
        meter = Meter(window_s=1e6)
        count = meter.count

        def noted(name: str, times: int = 1) -> None:
            count(name, times)
            self.notify()

        meter.count = noted  # type: ignore[method-assign]
        return meter

    def notify(self) -> None:
        with self.changed:
            self.changed.notify_all()

    def _read(self, message: Any) -> np.ndarray:
        if isinstance(message, Exception):
            raise message
        return message

    def _publish(self, publication: Publication) -> None:
        self.on_publish(publication)
        self.published.append(publication)

    def offer(self, message: Any = None, stamp_ns: int | None = None, camera: str | None = None) -> None:
        """An image comes from a camera, by default the first and with the time of now."""
        image = np.zeros((4, 4, 3), np.uint8) if message is None else message
        source = self.cameras[camera if camera is not None else next(iter(self.cameras))]
        source.offer(image, self.now_ns if stamp_ns is None else stamp_ns, "camera")

    def total(self, name: str, camera: str | None = None) -> int:
        """How often something has happened, at the node and its cameras, or at one camera."""
        meters = [self.meter, *(c.meter for c in self.cameras.values())]
        if camera is not None:
            meters = [self.cameras[camera].meter]
        return sum(meter.read().totals.get(name, 0) for meter in meters)

    def wait(self, name: str, total: int = 1, camera: str | None = None) -> None:
        self.wait_for(lambda: self.total(name, camera) >= total, name)

    def wait_for(self, condition: Callable[[], Any], what: str = "") -> None:
        with self.changed:
            totals = [c.meter.read().totals for c in self.cameras.values()]
            assert self.changed.wait_for(condition, PATIENCE_S), (what, self.meter.read().totals, totals)


@contextmanager
def bench(engine: Any = None, **arguments: Any) -> Iterator[Bench]:
    """A running bench."""
    made = Bench(engine or FakeEngine(), **arguments)
    made.worker.start()
    try:
        yield made
    finally:
        if hasattr(made.engine, "open"):
            made.engine.open()
        assert made.worker.stop(PATIENCE_S)
        assert made.keeper.close(PATIENCE_S)
