"""Where the robot's hand and camera are, and which joint positions bring the hand somewhere.

Damped least squares on MuJoCo's Jacobians. Works on any MJCF (or URDF that MuJoCo reads) with a fixed base. Positions
are metres in the model's world frame, which is taken as the robot's base frame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from exaone_ros.errors import ActionError, require

DAMPING = 0.02
"""Of the least squares, in metres: keeps steps small near singular postures (Nakamura and Hanafusa 1986)."""
MAX_STEP_RAD = 0.15
POSTURE_GAIN = 0.05
"""How strongly joints are drawn to the rest posture where that does not move the hand."""
DIRECTION_WEIGHT_M = 0.15
DIRECTION_ITERATIONS = 40
DIRECTION_DECAY = 0.95
"""One radian of wrong hand direction counts as so many metres of wrong position, for so many iterations; then its
weight shrinks by this factor in each: where both cannot be had, position comes first."""


@dataclass(frozen=True, eq=False)
class Pose:
    """A place and an orientation.

    Attributes:
        position: float64 [3], metres.
        rotation: float64 [3, 3]; its columns are the axes in the base frame.
    """

    position: NDArray[np.float64]
    rotation: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Solution:
    """What inverse kinematics found.

    Attributes:
        positions: float64 [joints], inside the limits.
        error_m: distance of the hand from where it should be.
        tilt_rad: angle between the hand's direction and the wanted one.
        iterations: that it took.
    """

    positions: NDArray[np.float64]
    error_m: float
    tilt_rad: float
    iterations: int


class Kinematics:
    """Forward and inverse kinematics. One thread at a time uses it.

    Args:
        mjcf: XML of the model.

    Raises:
        ActionError: MuJoCo cannot read the model.
        MissingExtra: MuJoCo is not installed.
    """

    def __init__(self, mjcf: str) -> None:
        self._mj: Any = require("mujoco", "sim")
        try:
            self.model = self._mj.MjModel.from_xml_string(mjcf)
        except ValueError as error:
            raise ActionError(f"robot model cannot be read: {error}") from error
        self._data = self._mj.MjData(self.model)

    def knows(self, joint: str) -> bool:
        """True if the model has a joint of this name."""
        return int(self._mj.mj_name2id(self.model, self._mj.mjtObj.mjOBJ_JOINT, joint)) >= 0

    def limits(self, joint: str) -> tuple[float, float]:
        """Position limits of a joint, radians or metres.

        Raises:
            ActionError: there is no such joint, or it is not limited.
        """
        index = self._joint(joint)
        if not self.model.jnt_limited[index]:
            raise ActionError(f"joint '{joint}' of the robot model has no limits; give it a range")
        lower, upper = self.model.jnt_range[index]
        return float(lower), float(upper)

    def site(self, name: str, positions: Mapping[str, float]) -> Pose:
        """Pose of a site at the given joint positions; joints not named are at their reference position.

        Raises:
            ActionError: no such site or joint.
        """
        self._set(positions)
        index = self._id(self._mj.mjtObj.mjOBJ_SITE, name, "site")
        return Pose(self._data.site_xpos[index].copy(), self._data.site_xmat[index].reshape(3, 3).copy())

    def camera(self, name: str, positions: Mapping[str, float]) -> Pose:
        """Pose of a camera's optical frame (ROS REP 103: x right, y down, z ahead) at the given joint positions.

        Raises:
            ActionError: no such camera or joint.
        """
        self._set(positions)
        index = self._id(self._mj.mjtObj.mjOBJ_CAMERA, name, "camera")
        rotation = self._data.cam_xmat[index].reshape(3, 3) * [1.0, -1.0, -1.0]  # MuJoCo's y is up, its z backwards
        return Pose(self._data.cam_xpos[index].copy(), rotation)

    def reach(
        self,
        site: str,
        joints: Sequence[str],
        start: Mapping[str, float],
        target: ArrayLike,
        *,
        direction: ArrayLike | None = None,
        rest: Mapping[str, float] | None = None,
        costs: Mapping[str, float] | None = None,
        tolerance_m: float = 1e-3,
        max_iterations: int = 300,
    ) -> Solution:
        """Joint positions that bring a site to a point, found from `start` on.

        Args:
            site: of the hand; its -z axis is the hand's direction.
            joints: that may move.
            start: positions of all joints.
            target: [3], metres in the base frame.
            direction: unit vector [3] that the hand's direction should have; None = any.
            rest: positions to prefer among those that reach equally well; `start` where not given.
            costs: of moving a joint, 1 where not given; a joint of cost 4 moves a quarter as much.
            tolerance_m: error at which to stop.
            max_iterations: after which the best is returned, whatever its error.

        Raises:
            ActionError: no such site or joint, or a target that is not finite.
        """
        goal = np.asarray(target, np.float64)
        if goal.shape != (3,) or not np.isfinite(goal).all():
            raise ActionError(f"reach target is {target!r}; expected three finite numbers in metres")
        self._set(start)
        site_id = self._id(self._mj.mjtObj.mjOBJ_SITE, site, "site")
        ids = [self._joint(joint) for joint in joints]
        qpos, dofs = self.model.jnt_qposadr[ids], self.model.jnt_dofadr[ids]
        lower, upper = self.model.jnt_range[ids].T
        preferred = np.array([(rest or start).get(joint, 0.0) for joint in joints])
        mobility = 1.0 / np.array([(costs or {}).get(joint, 1.0) for joint in joints])
        best: Solution | None = None
        for iteration in range(max_iterations + 1):
            weight = DIRECTION_WEIGHT_M * DIRECTION_DECAY ** max(0, iteration - DIRECTION_ITERATIONS)
            error, jacobian, tilt = self._error(site_id, goal, direction, dofs, weight)
            distance = float(np.linalg.norm(error[:3]))
            if best is None or distance < best.error_m:
                best = Solution(self._data.qpos[qpos].copy(), distance, tilt, iteration)
            if distance < tolerance_m and (tilt < 0.02 or iteration > DIRECTION_ITERATIONS):
                break
            here = self._data.qpos[qpos].copy()
            step = _step(error, jacobian, mobility, POSTURE_GAIN * (preferred - here), here, lower, upper)
            self._data.qpos[qpos] = np.clip(here + step, lower, upper)
            self._forward()
        assert best is not None
        return best

    def _error(
        self,
        site_id: int,
        goal: NDArray[np.float64],
        direction: ArrayLike | None,
        dofs: NDArray[Any],
        weight_m: float,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
        """(weighted error, its Jacobian, tilt in radians) at the present positions."""
        translation, turning = np.zeros((3, self.model.nv)), np.zeros((3, self.model.nv))
        self._mj.mj_jacSite(self.model, self._data, translation, turning, site_id)
        error = goal - self._data.site_xpos[site_id]
        if direction is None:
            return error, translation[:, dofs], 0.0
        wanted = np.asarray(direction, np.float64)
        pointing = -self._data.site_xmat[site_id].reshape(3, 3)[:, 2]
        turn = np.cross(pointing, wanted)
        tilt = float(np.arctan2(np.linalg.norm(turn), pointing @ wanted))
        jacobian = np.concatenate([translation[:, dofs], weight_m * turning[:, dofs]])
        return np.concatenate([error, weight_m * turn]), jacobian, tilt

    def _set(self, positions: Mapping[str, float]) -> None:
        self._data.qpos[:] = self.model.qpos0
        for joint, value in positions.items():
            self._data.qpos[self.model.jnt_qposadr[self._joint(joint)]] = value
        self._forward()

    def _forward(self) -> None:
        self._mj.mj_kinematics(self.model, self._data)
        self._mj.mj_comPos(self.model, self._data)
        self._mj.mj_camlight(self.model, self._data)

    def _joint(self, name: str) -> int:
        return self._id(self._mj.mjtObj.mjOBJ_JOINT, name, "joint")

    def _id(self, kind: Any, name: str, what: str) -> int:
        index = int(self._mj.mj_name2id(self.model, kind, name))
        if index < 0:
            raise ActionError(f"robot model has no {what} '{name}'")
        return index


def _step(
    error: NDArray[np.float64],
    jacobian: NDArray[np.float64],
    mobility: NDArray[np.float64],
    posture: NDArray[np.float64],
    here: NDArray[np.float64],
    lower: NDArray[np.float64],
    upper: NDArray[np.float64],
) -> NDArray[np.float64]:
    """A damped least-squares step; joints that stand at a limit and would leave it are taken out of the equation.

    Merely clipping them would make the others act as if those joints had moved, and end far from the target.
    """
    free = np.ones(len(here), bool)
    step = np.zeros(len(here))
    for _ in range(len(here)):
        weighted = (mobility * free)[:, None] * jacobian.T
        inverse = weighted @ np.linalg.inv(jacobian @ weighted + DAMPING**2 * np.eye(len(error)))
        drawn = posture * free
        step = inverse @ error + drawn - inverse @ (jacobian @ drawn)
        leaving = free & (((here <= lower) & (step < 0)) | ((here >= upper) & (step > 0)))
        if not leaving.any():
            break
        free &= ~leaving
    step[~free] = 0.0
    return step * min(1.0, MAX_STEP_RAD / max(float(np.abs(step).max()), 1e-12))
