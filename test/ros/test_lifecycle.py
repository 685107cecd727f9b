"""Whatever a hook raises, the node ends up in a named state with nothing left half done."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import rclpy
from rclpy.lifecycle import TransitionCallbackReturn

from exaone_ros.errors import CheckpointError
from exaone_ros.ros.lifecycle import ManagedNode


class Recording(ManagedNode):
    """Notes which hooks ran; those named in `broken` raise."""

    def __init__(self, context: rclpy.Context) -> None:
        super().__init__("recording", context=context)
        self.ran: list[str] = []
        self.broken: dict[str, Exception] = {}
        self.wanted = False

    @property
    def autostart(self) -> bool:
        return self.wanted

    def _run(self, name: str) -> None:
        self.ran.append(name)
        if name in self.broken:
            raise self.broken[name]

    def load(self) -> None:
        self._run("load")

    def start(self) -> None:
        self._run("start")

    def stop(self) -> None:
        self._run("stop")

    def free(self) -> None:
        self._run("free")


@pytest.fixture
def node() -> Iterator[Recording]:
    context = rclpy.Context()
    rclpy.init(context=context)
    made = Recording(context)
    yield made
    made.destroy_node()
    rclpy.try_shutdown(context=context)


def test_a_whole_life(node: Recording) -> None:
    for trigger, state in (
        (node.trigger_configure, "inactive"),
        (node.trigger_activate, "active"),
        (node.trigger_deactivate, "inactive"),
        (node.trigger_cleanup, "unconfigured"),
    ):
        assert trigger() == TransitionCallbackReturn.SUCCESS
        assert node.state == state and node.failure is None
    assert node.ran == ["load", "start", "stop", "free"]
    node.end()
    assert node.state == "finalized"
    node.end()  # may be called again


def test_a_load_that_fails_is_freed_and_named(node: Recording) -> None:
    node.broken["load"] = CheckpointError("config.json is missing")
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert node.state == "unconfigured" and node.ran == ["load", "free"]
    assert node.failure == "configure: CheckpointError: config.json is missing"
    node.broken.clear()
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    assert node.failure is None


def test_a_start_that_fails_is_stopped_and_the_node_stays_inactive(node: Recording) -> None:
    node.trigger_configure()
    node.broken["start"] = ValueError("a bug")
    assert node.trigger_activate() == TransitionCallbackReturn.FAILURE
    assert node.state == "inactive" and node.ran == ["load", "start", "stop"]
    assert node.failure == "activate: ValueError: a bug"


@pytest.mark.parametrize(("hook", "trigger"), [("stop", "trigger_deactivate"), ("free", "trigger_cleanup")])
def test_a_stop_or_free_that_fails_frees_what_it_can(node: Recording, hook: str, trigger: str) -> None:
    node.trigger_configure()
    node.trigger_activate()
    if hook == "free":
        node.trigger_deactivate()
    node.ran.clear()
    node.broken[hook] = RuntimeError("stuck")
    assert getattr(node, trigger)() == TransitionCallbackReturn.ERROR
    assert node.state == "unconfigured" and node.ran[-1] == "free"
    assert node.failure is not None and "stuck" in node.failure


def test_an_undo_that_fails_too_still_ends_in_a_state(node: Recording) -> None:
    node.broken = {"load": ValueError("first"), "free": ValueError("second")}
    assert node.trigger_configure() == TransitionCallbackReturn.ERROR
    assert node.state == "unconfigured"
    assert node.failure == "configure: ValueError: first"


def test_autostart_stops_at_what_fails(node: Recording) -> None:
    node.begin()
    assert node.ran == []
    node.wanted = True
    node.broken["load"] = CheckpointError("no")
    node.begin()
    assert node.state == "unconfigured" and node.ran == ["load", "free"]
    node.broken.clear()
    node.begin()
    assert node.state == "active"
    node.end()
    assert node.state == "finalized" and node.ran[-2:] == ["stop", "free"]


def test_an_end_that_fails_is_survived(node: Recording) -> None:
    node.trigger_configure()
    node.broken = {"stop": RuntimeError("stuck"), "free": RuntimeError("stuck too")}
    node.end()
    assert node.ran[-1] == "free"
