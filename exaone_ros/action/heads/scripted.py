"""Heads without a model: hold, sine, replay. They prove the way from head to robot; they are no policies."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from exaone_ros.action import motion
from exaone_ros.action.chunk import ActionChunk
from exaone_ros.action.heads.base import ARRIVED, committed, followed, steps_ahead
from exaone_ros.action.observation import Observation
from exaone_ros.action.spec import NS, ActionSpec
from exaone_ros.errors import ActionError


class HoldHead:
    """Stays where it is."""

    name = "hold_stub"

    def __init__(self, spec: ActionSpec) -> None:
        self.spec = spec

    def reset(self, observation: Observation) -> None:
        """Nothing to forget."""

    def predict(self, observation: Observation, prefix: NDArray[np.float32], delay_steps: int) -> ActionChunk:
        past = committed(self.spec, observation, prefix, delay_steps)
        ahead = len(steps_ahead(self.spec, past))
        actions = np.concatenate([past, np.repeat(past[-1:], ahead, axis=0)])
        return ActionChunk.make(self.spec, observation, actions, observation.stamp_ns, self.name)


class SineHead:
    """Swings one joint about where it was when the goal began, within its limits, to try out the way to the robot.

    Args:
        spec: of the robot.
        joint: name of the joint to swing.
        amplitude: radians or metres; made smaller where position or velocity limits ask for it.
        frequency_hz: of the swing.
        duration_s: after which the task is done, rounded up to whole swings; 0 = never.
    """

    name = "sine_stub"

    def __init__(
        self, spec: ActionSpec, joint: str, amplitude: float = 0.2, frequency_hz: float = 0.25, duration_s: float = 0.0
    ) -> None:
        if joint not in spec.joint_names:
            raise ActionError(f"sine head: joint '{joint}' is not in the spec; expected one of {spec.joint_names}")
        if not (math.isfinite(amplitude) and amplitude > 0 and math.isfinite(frequency_hz) and frequency_hz > 0):
            raise ActionError(f"sine head: amplitude {amplitude} and frequency {frequency_hz} must both be above 0")
        self.spec = spec
        self._index = spec.joint_names.index(joint)
        self._amplitude, self._frequency_hz = amplitude, frequency_hz
        self._duration_s = math.ceil(duration_s * frequency_hz) / frequency_hz
        self._start_ns: int | None = None
        self._centre = np.zeros(len(spec.joints))

    def reset(self, observation: Observation) -> None:
        self._start_ns = None

    def predict(self, observation: Observation, prefix: NDArray[np.float32], delay_steps: int) -> ActionChunk:
        spec, index = self.spec, self._index
        past = committed(spec, observation, prefix, delay_steps)
        first_ns = observation.stamp_ns + delay_steps * spec.dt_ns
        if self._start_ns is None:
            self._start_ns, self._centre = first_ns, past[-1]
        room = min(self._centre[index] - spec.lower[index], spec.upper[index] - self._centre[index])
        slow_enough = 0.8 * spec.max_velocity[index] / (2 * math.pi * self._frequency_hz)
        amplitude = max(0.0, min(self._amplitude, room, slow_enough))
        time_s = (first_ns - self._start_ns) / NS + steps_ahead(spec, past)
        swinging = (time_s < self._duration_s) if self._duration_s else np.ones(len(time_s), bool)
        future = np.repeat(self._centre[None], len(time_s), axis=0)
        future[:, index] += amplitude * np.sin(2 * math.pi * self._frequency_hz * time_s) * swinging
        return ActionChunk.make(
            spec,
            observation,
            followed(spec, past, future),
            observation.stamp_ns,
            self.name,
            done=len(time_s) > 0 and not swinging[-1],
        )


class ReplayHead:
    """Moves to the first posture of a recorded episode, then repeats its actions as they were timed.

    Args:
        spec: of the robot.
        actions: [N, A], recorded at `fps` in the order of the spec's joints.
        fps: actions per second of the recording.

    Raises:
        ActionError: the recording does not fit the spec or leaves its limits.
    """

    name = "replay_stub"

    def __init__(self, spec: ActionSpec, actions: ArrayLike, fps: float) -> None:
        recorded = np.asarray(actions, np.float64)
        if recorded.ndim != 2 or recorded.shape[1] != len(spec.joints) or len(recorded) == 0:
            shape = list(recorded.shape)
            raise ActionError(f"replay head: recording has shape {shape}; expected [N, {len(spec.joints)}]")
        if not (math.isfinite(fps) and fps > 0):
            raise ActionError(f"replay head: recording has {fps!r} actions per second; expected more than 0")
        outside = ~np.isfinite(recorded) | (recorded < spec.lower - 1e-6) | (recorded > spec.upper + 1e-6)
        if outside.any():
            step, joint = np.argwhere(outside)[0]
            raise ActionError(
                f"replay head: action {step} moves '{spec.joint_names[joint]}' to {recorded[step, joint]:g}; "
                f"expected {spec.lower[joint]:g} to {spec.upper[joint]:g}"
            )
        self.spec = spec
        self._recorded = np.clip(recorded, spec.lower, spec.upper)
        self._recorded_s = np.arange(len(recorded)) / fps
        self._start_ns: int | None = None
        self._approach = motion.Path(self._recorded[:1], np.zeros(1))

    def reset(self, observation: Observation) -> None:
        self._start_ns = None

    def predict(self, observation: Observation, prefix: NDArray[np.float32], delay_steps: int) -> ActionChunk:
        spec = self.spec
        past = committed(spec, observation, prefix, delay_steps)
        first_ns = observation.stamp_ns + delay_steps * spec.dt_ns
        if self._start_ns is None:
            self._start_ns = first_ns
            self._approach = motion.through([past[-1], self._recorded[0]], spec.max_velocity)
        time_s = (first_ns - self._start_ns) / NS + steps_ahead(spec, past)
        played_s = time_s - self._approach.duration_s
        replayed = np.stack(
            [np.interp(played_s, self._recorded_s, self._recorded[:, j]) for j in range(len(spec.joints))], axis=1
        )
        future = np.where((played_s < 0)[:, None], self._approach.at(time_s), replayed)
        actions = followed(spec, past, future)
        arrived = bool(np.abs(actions[-1] - self._recorded[-1]).max() < ARRIVED)
        done = arrived and len(time_s) > 0 and bool(played_s[-1] >= self._recorded_s[-1])
        return ActionChunk.make(spec, observation, actions, observation.stamp_ns, self.name, done=done)
