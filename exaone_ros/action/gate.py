"""The gate between a head and the robot: closed by default, it lets through nothing outside the limits.

It judges chunks when they arrive (`check`) and every single command just before it is published (`command`); the second
check does not rely on the first. On trouble it holds a position, never zeros. It is no certified safety function:
a robot needs its own limits, brakes and emergency stop below this.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from exaone_ros.action.chunk import ActionChunk
from exaone_ros.action.spec import NS, ActionSpec
from exaone_ros.errors import ActionError

TOLERANCE = 1e-6
"""Radians or metres that a float32 action may stand outside a limit through rounding; it is published inside."""
START_TOLERANCE = 0.05
"""Radians or metres that the robot may stand outside its limits when a goal begins; its first command is inside."""


class Stop(str, Enum):
    """Why a goal ended, or why none may start. Values are part of the ROS interface."""

    DONE = "done"
    CANCELLED = "cancelled"
    DEADLINE = "deadline"
    ESTOP = "estop"
    INACTIVE = "inactive"
    HEARTBEAT_LOST = "heartbeat_lost"
    STATE_LOST = "state_lost"
    IMAGE_LOST = "image_lost"
    NO_TARGET = "no_target"
    STALE = "stale"
    NON_FINITE = "non_finite"
    OUT_OF_LIMITS = "out_of_limits"
    TOO_FAST = "too_fast"
    JUMP = "jump"
    WRONG_SPEC = "wrong_spec"
    WRONG_SHAPE = "wrong_shape"
    TRACKING = "tracking"
    STARVED = "starved"
    HEAD_LATE = "head_late"
    HEAD_FAILED = "head_failed"
    BUSY = "busy"


@dataclass(frozen=True)
class Verdict:
    """Why something was refused.

    Attributes:
        reason: in a word.
        message: names the value, what was allowed and what to do.
        for_log: the same without texts of users; empty = the message holds none.
    """

    reason: Stop
    message: str
    for_log: str = ""


@dataclass(frozen=True)
class GateLimits:
    """What the gate tolerates.

    Attributes:
        max_observation_age_s: age of the oldest part of the observation when its chunk arrives.
        max_jump_s: how far a chunk may start from the commanded position, in seconds at the joint's largest velocity.
        max_lag_s: how far the robot may be from its command, in seconds at the joint's largest velocity.
    """

    max_observation_age_s: float = 1.0
    max_jump_s: float = 0.1
    max_lag_s: float = 0.5

    def __post_init__(self) -> None:
        for what in ("max_observation_age_s", "max_jump_s", "max_lag_s"):
            value = getattr(self, what)
            if not (math.isfinite(value) and value > 0):
                raise ActionError(f"gate: {what} is {value!r}; expected seconds above 0")


class Gate:
    """Decides what may be published. Not thread-safe: the runner guards it.

    Args:
        spec: of the robot; its limits are the limits.
        limits: what is tolerated beside.
    """

    def __init__(self, spec: ActionSpec, limits: GateLimits | None = None) -> None:
        self.spec = spec
        self.limits = limits or GateLimits()
        self._open = False
        self._estop_pressed = False
        self._estop_latched = False
        self._last: NDArray[np.float64] | None = None
        self._last_ns = 0

    @property
    def is_open(self) -> bool:
        return self._open

    @property
    def estop_latched(self) -> bool:
        return self._estop_latched

    @property
    def last(self) -> NDArray[np.float64] | None:
        """The last published command, float64 [A]; None before the first."""
        return self._last

    def open(self, position: ArrayLike, now_ns: int) -> Verdict | None:
        """Open for a goal; commands start at the measured `position` [A].

        Returns:
            None where it opened, else why not.
        """
        if self._estop_latched:
            return Verdict(Stop.ESTOP, "the emergency stop is latched; release it, then reset it")
        measured = np.asarray(position, np.float64)
        if measured.shape != (len(self.spec.joints),) or not np.isfinite(measured).all():
            return Verdict(Stop.STATE_LOST, f"measured position is {measured}; expected finite numbers")
        beyond = np.maximum(self.spec.lower - measured, measured - self.spec.upper)
        joint = int(np.argmax(beyond))
        if beyond[joint] > START_TOLERANCE:
            return Verdict(
                Stop.OUT_OF_LIMITS,
                f"'{self.spec.joint_names[joint]}' is measured at {measured[joint]:g}; allowed are "
                f"{self.spec.lower[joint]:g} to {self.spec.upper[joint]:g}: move it inside first, or does the robot "
                "file describe another robot?",
            )
        self._last, self._last_ns = self._inside(measured), now_ns
        self._open = True
        return None

    def close(self, position: ArrayLike | None, *, at_measured: bool = False) -> NDArray[np.float64] | None:
        """Close, and say what to hold.

        Args:
            position: the measured position [A], None where it is unknown.
            at_measured: hold where the robot is instead of where it was last told to go: right where it could not
                follow, since something may be in its way.

        Returns:
            The position to hold, float64 [A]; None where nothing was commanded since `forget()`: then there is
            nothing to hold, and nothing may be published.
        """
        self._open = False
        if self._last is not None and at_measured and position is not None:
            measured = np.asarray(position, np.float64)
            if measured.shape == self._last.shape and np.isfinite(measured).all():
                self._last = self._inside(measured)
        return self._last

    def forget(self) -> None:
        """Close and forget what was commanded, e.g. on deactivation: somebody else may move the robot now."""
        self._open = False
        self._last = None

    def estop(self, pressed: bool) -> None:
        """The state of the emergency stop; pressing latches."""
        self._estop_pressed = pressed
        self._estop_latched |= pressed
        if pressed:
            self._open = False

    def reset_estop(self) -> Verdict | None:
        """Unlatch. The gate stays closed until the next goal opens it.

        Returns:
            None where it is unlatched, else why not.
        """
        if self._estop_pressed:
            return Verdict(Stop.ESTOP, "the emergency stop is still pressed; release it first")
        self._estop_latched = False
        return None

    def check(self, chunk: ActionChunk, now_ns: int) -> Verdict | None:
        """Judge a chunk on arrival.

        Returns:
            None where it may be carried out, else why not.
        """
        spec, limits, actions = self.spec, self.limits, chunk.actions
        if chunk.spec_hash != spec.hash:
            return Verdict(
                Stop.WRONG_SPEC,
                f"chunk of '{chunk.head}' was made for spec {chunk.spec_hash!r}; this robot's is {spec.hash!r}: "
                "load a head that was made for it",
            )
        if actions.shape != (spec.horizon, len(spec.joints)) or chunk.dt_ns != spec.dt_ns:
            return Verdict(
                Stop.WRONG_SHAPE,
                f"chunk of '{chunk.head}' is {list(actions.shape)} at {chunk.dt_ns} ns; "
                f"expected {[spec.horizon, len(spec.joints)]} at {spec.dt_ns} ns",
            )
        if not np.isfinite(actions).all():
            step, joint = np.argwhere(~np.isfinite(actions))[0]
            value, name = actions[step, joint], spec.joint_names[joint]
            return Verdict(Stop.NON_FINITE, f"action {step} of '{chunk.head}' is {value} for '{name}'")
        age_s = (now_ns - chunk.observed_ns) / NS
        if not -limits.max_observation_age_s <= age_s <= limits.max_observation_age_s:
            return Verdict(
                Stop.STALE,
                f"chunk of '{chunk.head}' was made from an observation {age_s:.3f} s old; "
                f"allowed are {limits.max_observation_age_s:g} s: is a camera, the clock or the head too slow?",
            )
        lasts_s = spec.horizon * spec.dt_s
        ahead_s = (chunk.t0_ns - now_ns) / NS
        if not -lasts_s - limits.max_observation_age_s <= ahead_s <= lasts_s:
            return Verdict(
                Stop.STALE,
                f"chunk of '{chunk.head}' begins {ahead_s:.3f} s from now; expected at most the {lasts_s:g} s that a "
                "chunk lasts: is the head's clock that of the observation's stamps?",
            )
        positions = actions.astype(np.float64)
        outside = (positions < spec.lower - TOLERANCE) | (positions > spec.upper + TOLERANCE)
        if outside.any():
            step, joint = np.argwhere(outside)[0]
            value = positions[step, joint]
            return Verdict(
                Stop.OUT_OF_LIMITS,
                f"action {step} of '{chunk.head}' moves '{spec.joint_names[joint]}' to {value:g}; allowed are "
                f"{spec.lower[joint]:g} to {spec.upper[joint]:g}, and it is {_beyond(spec, joint, value):.1g} beyond",
            )
        speed = np.abs(np.diff(positions, axis=0)) * spec.fps
        if (speed > spec.max_velocity + 2 * TOLERANCE * spec.fps).any():
            step, joint = np.unravel_index(np.argmax(speed / spec.max_velocity), speed.shape)
            return Verdict(
                Stop.TOO_FAST,
                f"action {step + 1} of '{chunk.head}' moves '{spec.joint_names[joint]}' at {speed[step, joint]:g}/s; "
                f"allowed are {spec.max_velocity[joint]:g}/s",
            )
        return self._check_jump(chunk, positions, now_ns)

    def _check_jump(self, chunk: ActionChunk, positions: NDArray[np.float64], now_ns: int) -> Verdict | None:
        """The chunk must have passed near the commanded position between its start and now.

        Not just now: where the loop was held up meanwhile, the commands are behind what the head could know.
        """
        if self._last is None:
            return Verdict(Stop.STATE_LOST, "a chunk came before the gate was opened")
        index = min(max((now_ns - chunk.t0_ns) / chunk.dt_ns, 0.0), len(positions) - 1.0)
        here = positions[math.floor(index)] * (1 - index % 1) + positions[math.ceil(index)] * (index % 1)
        passed = np.concatenate([positions[: math.floor(index) + 1], here[None]])
        jumps_s = np.abs(passed - self._last) / self.spec.max_velocity
        nearest = int(np.argmin(jumps_s.max(axis=1)))
        here, jump_s = passed[nearest], jumps_s[nearest]
        joint = int(np.argmax(jump_s))
        if jump_s[joint] > self.limits.max_jump_s:
            return Verdict(
                Stop.JUMP,
                f"chunk of '{chunk.head}' has '{self.spec.joint_names[joint]}' at {here[joint]:g} where "
                f"{self._last[joint]:g} is commanded: {jump_s[joint]:.3f} s at full speed; "
                f"allowed are {self.limits.max_jump_s:g} s",
            )
        return None

    def command(self, wanted: ArrayLike, now_ns: int) -> NDArray[np.float64] | Verdict:
        """The next command on the way to `wanted` [A]: inside the limits, and no further from the last one than the
        velocity limits allow in the time that has passed, or in one action period where more has passed.

        Returns:
            float64 [A] to publish, or why the gate refuses (it is closed, or `wanted` is not finite or outside).
        """
        spec, last = self.spec, self._last
        if not self._open or last is None:
            return Verdict(Stop.INACTIVE, "the gate is closed")
        target = np.asarray(wanted, np.float64)
        if target.shape != last.shape or not np.isfinite(target).all():
            return Verdict(Stop.NON_FINITE, f"command is {target}; expected {len(spec.joints)} finite numbers")
        outside = (target < spec.lower - TOLERANCE) | (target > spec.upper + TOLERANCE)
        if outside.any():
            joint = int(np.argmax(outside))
            return Verdict(
                Stop.OUT_OF_LIMITS,
                f"command moves '{spec.joint_names[joint]}' to {target[joint]:g}; allowed are {spec.lower[joint]:g} to "
                f"{spec.upper[joint]:g}, and it is {_beyond(spec, joint, target[joint]):.1g} beyond",
            )
        # A loop that stalled must not catch up in one leap: the point is published with one period to get there.
        elapsed_s = min(max(now_ns - self._last_ns, 0), spec.dt_ns) / NS
        reach = spec.max_velocity * elapsed_s
        self._last = self._inside(last + np.clip(target - last, -reach, reach))
        self._last_ns = now_ns
        return self._last

    def check_lag(self, measured: ArrayLike, allowed_s: float | None = None) -> Verdict | None:
        """Judge whether the robot follows its commands; None where it does (or none was given).

        Args:
            measured: [A], positions.
            allowed_s: how far it may be, in seconds at the largest velocity; default: the limits' `max_lag_s`.
        """
        allowed_s = self.limits.max_lag_s if allowed_s is None else allowed_s
        if self._last is None:
            return None
        lag_s = np.abs(np.asarray(measured, np.float64) - self._last) / self.spec.max_velocity
        joint = int(np.argmax(lag_s))
        if not lag_s[joint] <= allowed_s:
            return Verdict(
                Stop.TRACKING,
                f"'{self.spec.joint_names[joint]}' is {lag_s[joint]:.3f} s at full speed away from its command; "
                f"allowed are {allowed_s:g} s: is something in its way, or does its controller not listen?",
            )
        return None

    def _inside(self, position: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.clip(position, self.spec.lower, self.spec.upper)


def _beyond(spec: ActionSpec, joint: int, value: float) -> float:
    """How far a joint's position is outside of its limits: both rounded may look the same."""
    return float(max(spec.lower[joint] - value, value - spec.upper[joint]))
