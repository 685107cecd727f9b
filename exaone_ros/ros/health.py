"""How a perception node is doing, as one named state with a reason. Knows the meter's names, no ROS."""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import get_args

from exaone_ros.ros.freshness import Refusal
from exaone_ros.ros.meter import Reading

_NEVER = float("inf")


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
    return Health(State.INACTIVE, f"the node is {lifecycle_state.replace('shuttingdown', 'shutting down')}")


def judge_camera(
    reading: Reading,
    *,
    publishers: int,
    active_s: float,
    camera_timeout_s: float,
    topic: str = "the topic",
    other_types: Collection[str] = (),
) -> Health:
    """Judge one camera of an active node.

    Args:
        reading: the camera's meter now.
        publishers: of images on its topic, as far as they are known.
        active_s: how long the node has been active.
        camera_timeout_s: how long the camera may be silent.
        topic: fully qualified, for the reason.
        other_types: types of messages that are published on its topic, but are not what is subscribed to.
    """
    fresh_s = reading.since_s.get("frames.fresh", _NEVER)
    if min(fresh_s, active_s) > camera_timeout_s:
        trouble = _camera_trouble(reading, publishers, fresh_s, camera_timeout_s, topic, other_types)
        return Health(State.STALE_CAMERA, trouble)
    bad = {name.removeprefix("bad."): number for name, number in reading.recent.items() if name.startswith("bad.")}
    if sum(bad.values()):
        return Health(State.DEGRADED, f"bad images: {_listed(bad)}")
    if fresh_s > active_s:
        return Health(State.STARTING, "waiting for the first image")
    if not reading.recent.get("frames.answered"):
        return Health(State.OK, "images come; none has been answered lately")
    return Health(State.OK, f"{reading.rates_hz.get('frames.answered', 0.0):.1f} answered frames per second")


def judge_engine(
    reading: Reading,
    *,
    answered: int,
    late: int,
    active_s: float,
    busy_s: float,
    max_age_s: float,
    trouble: str = "",
) -> Health:
    """Judge the engine of an active node.

    Args:
        reading: the node's meter now.
        answered: frames of all cameras that were answered lately.
        late: answers of all cameras that came too late lately.
        active_s: how long the node has been active.
        busy_s: how long the engine has been at the frame it is at.
        max_age_s: the freshness rule.
        trouble: why it does not answer, in words.
    """
    failed_s = reading.since_s.get("engine.failed", _NEVER)
    if failed_s < min(reading.since_s.get("engine.done", _NEVER), active_s):
        why = f": {trouble}" if trouble else ""
        return Health(State.ENGINE_FAILED, f"the engine failed {failed_s:.1f} s ago and has not answered since{why}")
    if busy_s > 2 * max_age_s:
        return Health(State.ENGINE_SLOW, f"the engine has been at one frame for {busy_s:.1f} s")
    if late > 0.1 * (late + answered):
        return Health(State.ENGINE_SLOW, f"{late} of {late + answered} answers came later than max_age {max_age_s:g} s")
    failing = {n.removeprefix("failed."): number for n, number in reading.recent.items() if n.startswith("failed.")}
    if sum(failing.values()):
        return Health(State.DEGRADED, f"tasks that failed: {_listed(failing)}")
    return Health(State.OK, "")


def judge(cameras: Mapping[str, Health], engine: Health) -> Health:
    """Judge an active node by its parts; the gravest trouble wins.

    One camera of several that fails leaves the node degraded, because the others go on; the node has a stale camera
    once none of them brings images.

    Args:
        cameras: by name; an empty name for the only one.
        engine: see `judge_engine`.
    """
    if engine.state is State.ENGINE_FAILED:
        return engine
    named = [
        (health, f"camera '{name}': {health.reason}" if name else health.reason) for name, health in cameras.items()
    ]
    stale = [reason for health, reason in named if health.state is State.STALE_CAMERA]
    if len(stale) == len(named):
        return Health(State.STALE_CAMERA, "; ".join(stale))
    if engine.state is State.ENGINE_SLOW:
        return engine
    troubled = [
        f"{health.state.value}: {reason}" if health.state is State.STALE_CAMERA else reason
        for health, reason in named
        if health.state.level > 0
    ]
    if troubled:
        return Health(State.DEGRADED, "; ".join(troubled))
    if engine.state is not State.OK:
        return engine
    waiting = [reason for health, reason in named if health.state is State.STARTING]
    if waiting:
        return Health(State.STARTING, "; ".join(waiting))
    return Health(State.OK, "; ".join(reason for _, reason in named))


def _camera_trouble(
    reading: Reading,
    publishers: int,
    fresh_s: float,
    camera_timeout_s: float,
    topic: str,
    other_types: Collection[str],
) -> str:
    # Not by what is in the meter's window: a camera that has just fallen silent has images there, all of them good.
    if reading.since_s.get("frames.received", _NEVER) <= camera_timeout_s:
        refused = {reason: reading.recent.get(f"dropped.{reason}", 0) for reason in get_args(Refusal)}
        return f"images come, but none is fresh: {_listed(refused)}"
    if publishers == 0 and other_types:
        return (
            f"nobody publishes images on {topic} as they are expected here: what is published there is "
            f"{' and '.join(sorted(other_types))}; set image_transport or the topic"
        )
    if publishers == 0:
        return f"nobody publishes images on {topic}"
    if reading.totals.get("qos.incompatible"):
        return f"no image: who publishes {topic} offers less than is asked for here; set reliability to best_effort"
    ago = "since the node became active" if fresh_s == _NEVER else f"for {fresh_s:.1f} s"
    return f"no image {ago}, although {publishers} publish on {topic}"


def _listed(numbers: dict[str, int]) -> str:
    return ", ".join(
        f"{number} {name}" for name, number in sorted(numbers.items(), key=lambda item: -item[1]) if number
    )
