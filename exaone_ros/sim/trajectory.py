"""Joint trajectories: checked when they come in, linear between their points, holding the last one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from exaone_ros.errors import SimulationError
from exaone_ros.sim.humanoid import JOINTS

MAX_POINTS = 10_000
MAX_NAME_SHOWN = 40


def shorten(name: str) -> str:
    """A name as it stands in an error, however long it is."""
    return name if len(name) <= MAX_NAME_SHOWN else f"{name[:MAX_NAME_SHOWN]}..."


@dataclass(frozen=True)
class Trajectory:
    """Targets of some joints over time.

    Attributes:
        joints: names out of humanoid.JOINTS.
        times_s: float64 [n], from the start of the trajectory, 0 or later, strictly growing.
        positions: float64 [n, joints], radians (fingers: metres).
    """

    joints: tuple[str, ...]
    times_s: NDArray[np.float64]
    positions: NDArray[np.float64]

    @classmethod
    def checked(cls, joints: Sequence[str], times_s: ArrayLike, positions: Sequence[ArrayLike]) -> Trajectory:
        """Build a trajectory from what somebody sent.

        Raises:
            SimulationError: no or unknown or repeated joints, no points or too many, points of the wrong length, times
                that do not grow, or values that are not finite.
        """
        if not 1 <= len(joints) <= len(JOINTS):
            raise SimulationError(
                f"trajectory names {len(joints) or 'no'} joints; expected 1 to {len(JOINTS)} out of {', '.join(JOINTS)}"
            )
        unknown = [shorten(joint) for joint in joints if joint not in JOINTS]
        if unknown:
            more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
            raise SimulationError(f"trajectory names {unknown[:3]}{more}; expected joints out of {', '.join(JOINTS)}")
        repeated = sorted({joint for joint in joints if list(joints).count(joint) > 1})
        if repeated:
            raise SimulationError(f"trajectory names the joint '{repeated[0]}' twice; each may stand once")
        if not 1 <= len(positions) <= MAX_POINTS:
            raise SimulationError(f"trajectory has {len(positions)} points; expected 1 to {MAX_POINTS}")
        for index, point in enumerate(positions):
            if np.shape(point) != (len(joints),):
                raise SimulationError(
                    f"point {index} of the trajectory has {np.size(point)} positions; expected one for each of its "
                    f"{len(joints)} joints"
                )
        times, values = np.asarray(times_s, np.float64), np.asarray(positions, np.float64)
        if times.shape != (len(values),):
            raise SimulationError(f"trajectory has {times.size} times for {len(values)} points; expected one for each")
        if not (np.isfinite(times).all() and np.isfinite(values).all()):
            raise SimulationError("trajectory holds NaN or infinity; expected finite times and positions")
        if times[0] < 0 or (np.diff(times) <= 0).any():
            raise SimulationError(f"times of the trajectory are {times[:8]} s; expected them to grow from 0 or later")
        return cls(tuple(joints), times, values)


class Follower:
    """A trajectory under way. Starts at the targets that hold when it begins.

    Args:
        trajectory: what to follow.
        start_s: simulated time at which it begins.
        targets: of all joints at that time.
    """

    def __init__(self, trajectory: Trajectory, start_s: float, targets: Mapping[str, float]) -> None:
        self._joints = trajectory.joints
        times, positions = trajectory.times_s, trajectory.positions
        if times[0] > 0:
            times = np.concatenate([[0.0], times])
            positions = np.concatenate([[[targets[joint] for joint in self._joints]], positions])
        self._times, self._positions = times + start_s, positions

    def done(self, time_s: float) -> bool:
        """Whether the last point has been reached in time."""
        return bool(time_s >= self._times[-1])

    def targets(self, time_s: float) -> dict[str, float]:
        """Targets of the trajectory's joints at a simulated time."""
        columns = range(len(self._joints))
        return {self._joints[i]: float(np.interp(time_s, self._times, self._positions[:, i])) for i in columns}
