"""Trouble is told once; however many tasks fail, the engine is still heard."""

from __future__ import annotations

from exaone_ros.ros.once import MOST_KINDS, OnceLog


class Lines(list[str]):
    info = warning = error = list.append


def test_each_kind_is_told_once_until_it_is_forgotten() -> None:
    lines = Lines()
    log = OnceLog(lines)
    for _ in range(3):
        log.warning("engine.open", "a")
        log.error("camera.read", "b")
    assert lines == ["a", "b"]
    log.forget("engine.")
    log.warning("engine.open", "c")
    log.error("camera.read", "d")
    assert lines == ["a", "b", "c"]


def test_failing_tasks_without_end_do_not_silence_the_engine() -> None:
    lines = Lines()
    log = OnceLog(lines)
    for number in range(MOST_KINDS + 10):
        log.warning(f"failed.{number}", "a task")
    assert len(lines) == MOST_KINDS
    log.error("engine.hung", "the engine")
    log.error("worker", "the worker")
    assert lines[MOST_KINDS:] == ["the engine", "the worker"]
