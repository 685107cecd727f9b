"""Totals for ever, rates and percentiles of the window, bounded memory."""

from __future__ import annotations

import weakref

import pytest

from exaone_ros.ros.meter import Meter


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_rates_are_of_the_window_and_totals_of_the_life() -> None:
    clock = Clock()
    meter = Meter(window_s=10, clock=clock)
    for _ in range(200):
        clock.now_s += 0.1
        meter.count("frame")
    reading = meter.read()
    assert reading.totals["frame"] == 200
    assert reading.rates_hz["frame"] == pytest.approx(10, rel=0.02)
    clock.now_s += 30
    reading = meter.read()
    assert reading.totals["frame"] == 200 and reading.rates_hz["frame"] == 0
    assert reading.since_s["frame"] == pytest.approx(30)


def test_a_young_meter_does_not_divide_by_a_window_it_has_not_lived() -> None:
    clock = Clock()
    meter = Meter(window_s=10, clock=clock)
    clock.now_s += 1
    meter.count("frame", 5)
    assert meter.read().rates_hz["frame"] == pytest.approx(5)


def test_percentiles_and_sums_forget_what_left_the_window() -> None:
    clock = Clock()
    meter = Meter(window_s=10, clock=clock)
    meter.sample("ms", 1000.0)
    clock.now_s += 11
    for value in range(101):
        meter.sample("ms", float(value))
    reading = meter.read()
    assert (reading.samples["ms"].p50, reading.samples["ms"].p95) == (50, 95)
    assert reading.sums["ms"] == 5050
    clock.now_s += 11
    assert "ms" not in meter.read().samples


def test_memory_is_bounded() -> None:
    meter = Meter(most=100)
    for _ in range(1000):
        meter.count("a")
        meter.sample("b", 1.0)
    reading = meter.read()
    assert reading.totals["a"] == 1000 and reading.recent["a"] == 100 and reading.sums["b"] == 100


class Value(float):
    """A float that can be watched."""


def test_what_left_the_window_is_not_kept() -> None:
    clock = Clock()
    meter = Meter(window_s=10, clock=clock)
    value = Value(1.0)
    watched = weakref.ref(value)
    meter.sample("ms", value)
    del value
    clock.now_s += 11
    meter.sample("ms", 2.0)
    assert watched() is None
    assert meter.read().sums["ms"] == 2


def test_names_that_users_choose_can_be_forgotten_but_for_some() -> None:
    meter = Meter()
    for name in ("task.a", "task.ab", "tasks", "failed.a"):
        meter.count(name)
        meter.sample(name, 1.0)
    meter.forget("task.", {"ab"})
    reading = meter.read()
    left = {"task.ab", "tasks", "failed.a"}
    assert set(reading.totals) == set(reading.recent) == set(reading.since_s) == set(reading.samples) == left
    meter.count("task.a")
    assert meter.read().totals["task.a"] == 1
