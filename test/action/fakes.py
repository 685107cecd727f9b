"""A clock that stands still until it is told, and heads that do what a test says."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from exaone_ros.action.chunk import ActionChunk
from exaone_ros.action.gate import Gate
from exaone_ros.action.goal import Command, RunnerLimits
from exaone_ros.action.heads.base import ActionHead
from exaone_ros.action.observation import Observation
from exaone_ros.action.queue import ChunkQueue
from exaone_ros.action.runner import PolicyRunner
from exaone_ros.action.spec import NS, ActionSpec

START = (0.1, -0.5, 0.01)


class Clock:
    """Serves as both clocks. Attributes: now_ns."""

    def __init__(self) -> None:
        self.now_ns = 100 * NS

    def __call__(self) -> int:
        return self.now_ns


class CallableHead:
    """A head made of a function (observation, prefix, delay_steps) -> chunk; counts its calls."""

    name = "test_head"

    def __init__(
        self, spec: ActionSpec, predict: Callable[[Observation, NDArray[np.float32], int], ActionChunk]
    ) -> None:
        self.spec, self._predict = spec, predict
        self.resets = 0

    def reset(self, observation: Observation) -> None:
        self.resets += 1

    def predict(self, observation: Observation, prefix: NDArray[np.float32], delay_steps: int) -> ActionChunk:
        return self._predict(observation, prefix, delay_steps)


class Robot:
    """A runner with a perfectly following robot behind it, all in simulated time.

    Args:
        head: makes the chunks.
        limits: of the runner.
        follows: the robot goes where it is told.
    """

    def __init__(self, head: ActionHead, limits: RunnerLimits | None = None, follows: bool = True) -> None:
        self.clock, self.spec = Clock(), head.spec
        self.chunks: list[ActionChunk] = []
        self.errors: list[str] = []
        self.chunk_came = threading.Semaphore(0)
        self.position = np.array(START)
        self.follows = follows
        self.published: list[Command] = []
        self.heart_beats = self.sends_state = True
        self.observation = Observation.make_example(self.spec)
        self.runner = PolicyRunner(
            head,
            Gate(self.spec),
            ChunkQueue(self.spec),
            self.clock,
            limits,
            steady_ns=self.clock,
            on_chunk=self._on_chunk,
            log_error=self.errors.append,
        )

    def _on_chunk(self, chunk: ActionChunk) -> None:
        self.chunks.append(chunk)
        self.chunk_came.release()

    def feed(self) -> None:
        """Heartbeat and a fresh observation."""
        if self.heart_beats:
            self.runner.heartbeat()
        if self.sends_state:
            stamps = dict.fromkeys(self.spec.cameras, self.clock.now_ns)
            self.runner.observe(
                Observation(
                    self.position.astype(np.float32),
                    self.clock.now_ns,
                    self.observation.images,
                    stamps,
                    target=self.observation.target,
                )
            )

    def step(self, periods: float = 1.0) -> Command | None:
        """Let time pass and tick once; the head's thread sees all of it or nothing: its own timing decides nothing."""
        with self.runner._changed:
            self.pass_time(periods)
            return self.tick()

    def pass_time(self, periods: float) -> None:
        """Let time pass and tell the runner of it, as when the control loop is held up: no tick."""
        with self.runner._changed:
            self.clock.now_ns += round(periods * self.spec.dt_ns)
            self.feed()

    def tick(self) -> Command | None:
        """Tick once, now."""
        command = self.runner.tick()
        if command is not None:
            self.published.append(command)
            if self.follows:
                self.position = command.position.copy()
        return command

    def steps(self, count: int, wait: bool = True) -> None:
        """Step, each time when the head has nothing to do; without `wait` whatever it does."""
        for _ in range(count):
            if wait:
                self.wait_for_head()
            self.step()

    def await_chunk(self) -> None:
        """Wait until the head's next chunk has been taken over."""
        assert self.chunk_came.acquire(timeout=60), f"no chunk came; errors: {self.errors}"

    def wait_for_head(self) -> None:
        """Wait until the head has nothing to do at this moment of simulated time."""
        runner = self.runner
        with runner._changed:
            runner._changed.notify_all()
            idle = runner._changed.wait_for(
                lambda: not runner._active or (runner._thinking_since_ns is None and not runner._wants_chunk()), 60
            )
        assert idle, "the head is stuck"

    def run(self, most_steps: int = 2000) -> None:
        """Tick until the goal ends, waiting for the head whenever it thinks."""
        for _ in range(most_steps):
            if not self.runner.active:
                return
            self.wait_for_head()
            self.step()
        raise AssertionError(f"the goal did not end in {most_steps} steps")
