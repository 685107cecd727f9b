"""How a perception node is doing, as one named state with a reason. Knows the meter's names, no ROS."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from exaone_ros.ros.meter import Reading


class State(enum.Enum):
    """The named states of a node; the value is what diagnostics say."""

    OK = "ok"
    UNCONFIGURED = "unconfigured"
    INACTIVE = "inactive"
    STARTING = "starting"
    """Active, and the first image has not had time to come."""
    CONFIGURING = "configuring"
    """Loading the model."""
    CONFIGURE_FAILED = "configure_failed"
    ACTIVATE_FAILED = "activate_failed"
    STALE_CAMERA = "stale_camera"
    """No image that may be answered has come for a while."""
    ENGINE_SLOW = "engine_slow"
    """Answers come too late to be published, or the engine is stuck on a frame."""
    ENGINE_FAILED = "engine_failed"
    DEGRADED = "degraded"
    """Answers come, but some images or some tasks fail."""

    @property
    def level(self) -> int:
        """0 fine, 1 warning, 2 error: as in diagnostic_msgs/DiagnosticStatus."""
        if self in (State.CONFIGURE_FAILED, State.ACTIVATE_FAILED, State.STALE_CAMERA, State.ENGINE_FAILED):
            return 2
        return 1 if self in (State.ENGINE_SLOW, State.DEGRADED) else 0


@dataclass(frozen=True)
class Health:
    """A state and, in words, why."""

    state: State
    reason: str


def judge_idle(lifecycle_state: str, failure: str | None) -> Health:
    """Judge a node that is not active.

    Args:
        lifecycle_state: unconfigured, inactive, or the name of a transition.
        failure: why its last transition failed, if it did.
    """
    if lifecycle_state == "unconfigured":
        return Health(State.CONFIGURE_FAILED, failure) if failure else Health(State.UNCONFIGURED, "not configured yet")
    if lifecycle_state == "configuring":
        return Health(State.CONFIGURING, "loading the model")
    if failure:
        return Health(State.ACTIVATE_FAILED, failure)
    return Health(State.INACTIVE, f"the node is {lifecycle_state}")


def judge(
    reading: Reading, *, publishers: int, active_s: float, busy_s: float, camera_timeout_s: float, max_age_s: float
) -> Health:
    """Judge an active node; the gravest trouble wins.

    Args:
        reading: the meter now.
        publishers: of the image topic, as far as they are known.
        active_s: how long the node has been active.
        busy_s: how long the engine has been at the frame it is at.
        camera_timeout_s: how long the camera may be silent.
        max_age_s: the freshness rule.
    """
    never = float("inf")
    failed_s = reading.since_s.get("engine.failed", never)
    if failed_s < min(reading.since_s.get("engine.done", never), active_s):
        return Health(State.ENGINE_FAILED, f"the engine failed {failed_s:.1f} s ago and has not answered since")
    fresh_s = reading.since_s.get("frames.fresh", never)
    if min(fresh_s, active_s) > camera_timeout_s:
        return Health(State.STALE_CAMERA, _camera_trouble(reading, publishers, fresh_s))
    answered, late = reading.recent.get("frames.answered", 0), reading.recent.get("dropped.late", 0)
    if busy_s > 2 * max_age_s:
        return Health(State.ENGINE_SLOW, f"the engine has been at one frame for {busy_s:.1f} s")
    if late > 0.1 * (late + answered):
        return Health(State.ENGINE_SLOW, f"{late} of {late + answered} answers came later than max_age {max_age_s:g} s")
    bad = {name.removeprefix("bad."): number for name, number in reading.recent.items() if name.startswith("bad.")}
    if sum(bad.values()):
        return Health(State.DEGRADED, f"bad images: {_listed(bad)}")
    failing = {n.removeprefix("failed."): number for n, number in reading.recent.items() if n.startswith("failed.")}
    if sum(failing.values()):
        return Health(State.DEGRADED, f"tasks that failed: {_listed(failing)}")
    if fresh_s > active_s:
        return Health(State.STARTING, "waiting for the first image")
    return Health(State.OK, f"{reading.rates_hz.get('frames.answered', 0.0):.1f} answered frames per second")


def _camera_trouble(reading: Reading, publishers: int, fresh_s: float) -> str:
    refused = {n.removeprefix("dropped."): k for n, k in reading.recent.items() if n.startswith("dropped.") and k}
    if reading.recent.get("frames.received", 0):
        return f"images come, but none is fresh: {_listed(refused)}"
    if publishers == 0:
        return "nobody publishes images on the topic"
    if reading.totals.get("qos.incompatible"):
        return "no image: a publisher offers less than this subscription asks for; set reliability to best_effort"
    ago = "since the node became active" if fresh_s == float("inf") else f"for {fresh_s:.1f} s"
    return f"no image {ago}, although {publishers} publish on the topic"


def _listed(numbers: dict[str, int]) -> str:
    return ", ".join(
        f"{number} {name}" for name, number in sorted(numbers.items(), key=lambda item: -item[1]) if number
    )
