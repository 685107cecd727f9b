"""The reach head: follows a decision by bringing a hand to the chosen object. Scripted; a stub for a learned policy.

It lifts the hand, moves it over the object, and lowers it until the fingertips are just above the object's top. It does
not grasp, it avoids no obstacles, and it does not look again on the way but where the target moves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from exaone_ros.action import motion
from exaone_ros.action.chunk import ActionChunk
from exaone_ros.action.heads.base import ARRIVED, committed, followed, steps_ahead
from exaone_ros.action.kinematics import Kinematics
from exaone_ros.action.observation import Observation, Target
from exaone_ros.action.spec import NS, ActionSpec
from exaone_ros.errors import ActionError

DOWN = (0.0, 0.0, -1.0)


@dataclass(frozen=True)
class Arm:
    """One arm of the robot.

    Attributes:
        name: e.g. ``right``.
        site: of the model, between the fingers; its -z axis points along them.
        joints: that bring it somewhere, all of them in the spec.
        costs: of moving a joint, see `Kinematics.reach`.
    """

    name: str
    site: str
    joints: tuple[str, ...]
    costs: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ReachSettings:
    """How to reach.

    Attributes:
        hover_m: of the site above the object's top at the end.
        clearance_m: of the site above the object's top on the way.
        speed_share: of the velocity limits that is used.
        tolerance_m: error of the inverse kinematics that is accepted.
        replan_m: how far the target must move before a new way is planned.
        max_target_age_s: of the image that the target was located on, at the start.
    """

    hover_m: float = 0.035
    clearance_m: float = 0.14
    speed_share: float = 0.5
    tolerance_m: float = 0.005
    replan_m: float = 0.02
    max_target_age_s: float = 5.0


class ReachHead:
    """Brings the nearer hand to `observation.target`.

    Args:
        spec: of the robot; holds the joints of all arms.
        kinematics: of the robot; used by this head alone.
        arms: to choose from: the one that needs the least movement to get there.
        settings: how to reach.
        rest: posture to prefer, positions of joints; where not given, that at the start.

    Raises:
        ActionError: a joint of an arm is not in the spec.
    """

    name = "reach_stub"

    def __init__(
        self,
        spec: ActionSpec,
        kinematics: Kinematics,
        arms: Sequence[Arm],
        settings: ReachSettings | None = None,
        rest: Mapping[str, float] | None = None,
    ) -> None:
        for arm in arms:
            missing = [joint for joint in arm.joints if joint not in spec.joint_names]
            if missing:
                raise ActionError(f"arm '{arm.name}' moves '{missing[0]}', which spec '{spec.embodiment}' lacks")
        self.spec = spec
        self._kinematics, self._arms = kinematics, tuple(arms)
        self._settings, self._rest = settings or ReachSettings(), rest
        self._path: motion.Path | None = None
        self._planned: Target | None = None
        self._start_ns = 0

    def reset(self, observation: Observation) -> None:
        """Begin anew.

        Raises:
            ActionError: there is no target, or it was located too long ago.
        """
        self._path = self._planned = None
        target = observation.target
        if target is None:
            raise ActionError("there is no target to reach for: no object of the decision has been located")
        age_s = (observation.stamp_ns - target.stamp_ns) / NS
        if age_s > self._settings.max_target_age_s:
            limit = self._settings.max_target_age_s
            raise ActionError(f"target '{target.label}' was located {age_s:.2f} s ago; allowed are {limit:g} s")

    def predict(self, observation: Observation, prefix: NDArray[np.float32], delay_steps: int) -> ActionChunk:
        spec, target = self.spec, observation.target
        past = committed(spec, observation, prefix, delay_steps)
        first_ns = observation.stamp_ns + delay_steps * spec.dt_ns
        if self._path is None or (target is not None and self._has_moved(target)):
            if target is None:
                raise ActionError("there is no target to reach for: no object of the decision has been located")
            self._path = self._plan(past[-1], target)
            self._planned, self._start_ns = target, first_ns
        time_s = (first_ns - self._start_ns) / NS + steps_ahead(spec, past)
        actions = followed(spec, past, self._path.at(time_s))
        arrived = bool(np.abs(actions[-1] - self._path.postures[-1]).max() < ARRIVED)
        done = arrived and len(time_s) > 0 and bool(time_s[-1] >= self._path.duration_s)
        return ActionChunk.make(spec, observation, actions, observation.stamp_ns, self.name, done=done)

    def _has_moved(self, target: Target) -> bool:
        assert self._planned is not None
        if target.label != self._planned.label:
            return True
        return float(np.linalg.norm(np.subtract(target.position, self._planned.position))) > self._settings.replan_m

    def _plan(self, start: NDArray[np.float64], target: Target) -> motion.Path:
        """The way from posture `start` [A] to the target.

        Raises:
            ActionError: no arm gets there.
        """
        ways, misses = [], []
        for arm in self._arms:
            postures, error_m = self._way(arm, start, target)
            if error_m <= self._settings.tolerance_m:
                ways.append(motion.through([start, *postures], self.spec.max_velocity, self._settings.speed_share))
            misses.append(f"{arm.name} {1e3 * error_m:.0f} mm")
        if not ways:
            place = ", ".join(f"{v:.3f}" for v in target.position)
            raise ActionError(f"'{target.label}' at ({place}) m is out of reach; nearest: {'; '.join(misses)}")
        return min(ways, key=lambda way: way.duration_s)

    def _way(self, arm: Arm, start: NDArray[np.float64], target: Target) -> tuple[list[NDArray[np.float64]], float]:
        """(postures after the start, largest error of inverse kinematics in metres)."""
        here = dict(zip(self.spec.joint_names, start.tolist(), strict=True))
        hand = self._kinematics.site(arm.site, here).position
        top = np.array(target.position)
        over = top + np.array([0.0, 0.0, self._settings.clearance_m])
        points = [over, top + np.array([0.0, 0.0, self._settings.hover_m])]
        if hand[2] < over[2]:
            points.insert(0, np.array([hand[0], hand[1], over[2]]))
        postures, worst_m = [], 0.0
        for index, point in enumerate(points):
            lifting = len(points) == 3 and index == 0
            found = self._kinematics.reach(
                arm.site,
                arm.joints,
                here,
                point,
                direction=None if lifting else DOWN,
                rest=self._rest,
                costs=arm.costs,
            )
            if not lifting:  # how exactly the hand is lifted does not matter
                worst_m = max(worst_m, found.error_m)
            here |= zip(arm.joints, found.positions.tolist(), strict=True)
            postures.append(np.array([here[joint] for joint in self.spec.joint_names]))
        return postures, worst_m
