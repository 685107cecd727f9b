"""An engine that fails is tried again, then opened anew, with pauses that grow; what happens is told once."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from fake_engine import FakeEngine
from worker_bench import PATIENCE_S, Log

from exaone_ros.errors import CheckpointError, EngineError, EngineHung
from exaone_ros.ros import engine_keeper
from exaone_ros.ros.engine_keeper import EngineKeeper
from exaone_ros.ros.meter import Meter
from exaone_ros.ros.once import OnceLog

FAILURE = EngineError("out of memory")


class Kept:
    """A keeper of engines that are opened one after the other, and of failures to open."""

    def __init__(self, *openings: Any, restart_after: int = 3) -> None:
        self.openings = list(openings)
        self.log = Log()
        self.opened = threading.Semaphore(0)
        self.meter = Meter()
        self.keeper = EngineKeeper(self._open, lambda: restart_after, self.meter, OnceLog(self.log))
        self.keeper.on_open = self.opened.release

    def _open(self) -> Any:
        made = self.openings.pop(0)
        if isinstance(made, Exception):
            raise made
        return made

    def wait_opened(self) -> None:
        assert self.opened.acquire(timeout=PATIENCE_S)

    def told(self, words: str) -> int:
        return sum(words in line for line in self.log.lines)


@pytest.fixture
def keep(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Kept]:
    monkeypatch.setattr(engine_keeper, "RETRY_S", 0.01)
    return Kept


def test_what_a_replaced_engine_says_late_does_not_cost_the_new_one_its_place(keep: Callable[..., Kept]) -> None:
    first, second = FakeEngine(), FakeEngine()
    kept = keep(first, second, restart_after=1)
    kept.keeper.failed(FAILURE, 0)
    kept.wait_opened()
    kept.keeper.failed(FAILURE, 0)
    assert kept.keeper.close(PATIENCE_S) and second.closed, "the second is the one in place"
    assert kept.keeper.restarts == 1 and kept.meter.read().totals["engine.failed"] == 2


def test_it_pauses_after_a_failure_and_goes_on_with_the_same_engine(keep: Callable[..., Kept]) -> None:
    first = FakeEngine()
    kept = keep(first)
    kept.keeper.failed(FAILURE)
    assert "out of memory" in kept.keeper.trouble
    kept.keeper.answered()
    assert kept.keeper.trouble == "" and kept.keeper.restarts == 0
    assert kept.keeper.close(PATIENCE_S) and first.closed


def test_after_some_failures_in_a_row_it_is_opened_anew(keep: Callable[..., Kept]) -> None:
    first, second = FakeEngine(), FakeEngine()
    kept = keep(first, second)
    for _ in range(2):
        kept.keeper.failed(FAILURE)
    kept.keeper.answered()  # not in a row
    for _ in range(3):
        kept.keeper.failed(FAILURE)
    kept.wait_opened()
    assert first.closed and kept.keeper.restarts == 1
    assert kept.told("was opened anew") == 1 and kept.told("opening the engine anew") == 1
    assert kept.told("tried again each") == 2  # it had recovered in between
    assert kept.keeper.close(PATIENCE_S) and second.closed


def test_an_engine_that_takes_no_questions_is_replaced_at_once(keep: Callable[..., Kept]) -> None:
    kept = keep(FakeEngine(refusal="the engine is closed"), FakeEngine())
    kept.keeper.failed(FAILURE)
    kept.wait_opened()
    assert kept.keeper.close(PATIENCE_S)


def test_opening_is_tried_again_and_each_trouble_told_once(keep: Callable[..., Kept]) -> None:
    broken = [CheckpointError("config.json is missing") for _ in range(3)]
    kept = keep(FakeEngine(), *broken, FakeEngine(), restart_after=1)
    kept.keeper.failed(FAILURE)
    kept.wait_opened()
    assert kept.told("config.json is missing") == 1 and kept.keeper.restarts == 1
    assert kept.keeper.close(PATIENCE_S)


def test_an_engine_that_hangs_is_not_replaced(keep: Callable[..., Kept]) -> None:
    kept = keep(FakeEngine(refusal="hung"), restart_after=1)
    for _ in range(5):
        kept.keeper.failed(EngineHung("has not returned for 60 s; end this process"))
    assert kept.keeper.restarts == 0 and kept.told("hangs") == 1
    assert kept.keeper.close(PATIENCE_S)


def test_zero_means_never(keep: Callable[..., Kept]) -> None:
    kept = keep(FakeEngine(), restart_after=0)
    for _ in range(9):
        kept.keeper.failed(FAILURE)
    assert kept.keeper.restarts == 0
    assert kept.keeper.close(PATIENCE_S)


def test_closing_ends_a_restart(keep: Callable[..., Kept]) -> None:
    kept = keep(FakeEngine(), *[EngineError("no device")] * 1000, restart_after=1)
    kept.keeper.failed(FAILURE)
    assert kept.keeper.close(PATIENCE_S) and kept.keeper.engine is None


def test_the_old_engine_is_gone_before_the_new_one_is_opened(keep: Callable[..., Kept]) -> None:
    first = FakeEngine()
    gone = weakref.ref(first)
    kept = keep(first, FakeEngine(), restart_after=1)
    del first
    alive_at_opening: list[bool] = []

    def watched() -> Any:
        gc.collect()
        alive_at_opening.append(gone() is not None)
        return kept._open()

    kept.keeper._opener = watched
    kept.keeper.failed(FAILURE)
    kept.wait_opened()
    assert alive_at_opening == [False]
    assert kept.keeper.close(PATIENCE_S)
