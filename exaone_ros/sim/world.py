"""The live world: physics, the robot's joints, and what its head camera sees right now.

Physics and rendering have a model each, so that they can run in two threads: `World` steps, `snapshot()` hands over a
copy of its state, and a `TabletopRenderer` draws that.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exaone_ros.errors import SimulationError
from exaone_ros.sim.frame import LabelledFrame
from exaone_ros.sim.humanoid import JOINTS, PAN_RANGE_RAD, TILT_RANGE_RAD
from exaone_ros.sim.model import TabletopModel
from exaone_ros.sim.scene import Scene
from exaone_ros.sim.tabletop import TabletopRenderer
from exaone_ros.sim.trajectory import Follower, Trajectory

STEP_S = 0.002
_MAX_STEPS = 100_000


@dataclass(frozen=True)
class HeadMotion:
    """A slow sweep of the head about the scene's pan and tilt.

    Attributes:
        pan_rad, tilt_rad: amplitudes; 0 keeps the head still.
        period_s: of the sweep; tilt moves at 0.7 of its pace, so that the way does not repeat soon.
    """

    pan_rad: float = 0.0
    tilt_rad: float = 0.0
    period_s: float = 12.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.pan_rad) and math.isfinite(self.tilt_rad) and 0.5 <= self.period_s <= 3600):
            raise SimulationError(f"{self} is no head motion; expected finite amplitudes and a period of 0.5 to 3600 s")

    def at(self, time_s: float) -> tuple[float, float]:
        """Offsets of (pan, tilt) in radians at a simulated time."""
        phase = 2 * math.pi * time_s / self.period_s
        return self.pan_rad * math.sin(phase), self.tilt_rad * math.sin(0.7 * phase)


@dataclass(frozen=True)
class JointStates:
    """Attributes: simulated time; names; positions (rad or m) and velocities (rad/s or m/s), float64 [joints]."""

    time_s: float
    names: tuple[str, ...]
    positions: NDArray[np.float64]
    velocities: NDArray[np.float64]


@dataclass(frozen=True)
class Snapshot:
    """Attributes: simulated time; the scene that was set last; joint positions of everything that moves in it."""

    time_s: float
    scene: Scene
    qpos: NDArray[np.float64]


class World:
    """Physics of a scene with the robot in it. Any thread may call any method.

    Args:
        scene: what stands on the table.
        head_motion: how the head moves by itself.
        free: let the robot stand on its feet; otherwise its pelvis is pinned, and its camera sways with nothing.

    Raises:
        MissingExtra: MuJoCo is not installed.
    """

    def __init__(self, scene: Scene, head_motion: HeadMotion | None = None, *, free: bool = False) -> None:
        self._lock = threading.Lock()
        self._head_motion = head_motion or HeadMotion()
        self._tabletop = TabletopModel(free=free)
        self.free = free
        model = self._tabletop.model
        self._targets = np.zeros(len(JOINTS))
        self._qpos_of = np.array([int(model.joint(joint).qposadr[0]) for joint in JOINTS])
        self._qvel_of = np.array([int(model.joint(joint).dofadr[0]) for joint in JOINTS])
        root = [model.joint("root")] if free else []
        self._robot_qpos = np.concatenate([self._qpos_of, *(r.qposadr[0] + np.arange(7) for r in root)]).astype(int)
        self._robot_qvel = np.concatenate([self._qvel_of, *(r.dofadr[0] + np.arange(6) for r in root)]).astype(int)
        self._follower: Follower | None = None
        self._scene = scene
        self._tabletop.apply(scene)
        self._tabletop.mj.mj_forward(model, self._tabletop.data)

    @property
    def scene(self) -> Scene:
        """The scene that was set last."""
        return self._scene

    @property
    def time_s(self) -> float:
        """Simulated time since the start; scenes do not set it back."""
        return float(self._tabletop.data.time)

    def set_scene(self, scene: Scene) -> None:
        """Replace table, objects, person and light at once; the robot and its time go on as they are.

        Raises:
            SimulationError: the scene does not fit into the pool.
        """
        with self._lock:
            data = self._tabletop.data
            time, ctrl = data.time, np.array(data.ctrl)
            qpos, qvel = np.array(data.qpos[self._robot_qpos]), np.array(data.qvel[self._robot_qvel])
            self._tabletop.apply(scene)
            data.time, data.ctrl[:] = time, ctrl
            data.qpos[self._robot_qpos], data.qvel[self._robot_qvel] = qpos, qvel
            self._tabletop.mj.mj_forward(self._tabletop.model, data)
            self._scene = scene

    def set_trajectory(self, trajectory: Trajectory) -> None:
        """Follow a trajectory from now on, in place of an earlier one; where it moves the head, the sweep ends."""
        with self._lock:
            targets = {joint: float(self._tabletop.data.ctrl[i]) for i, joint in enumerate(JOINTS)}
            self._follower = Follower(trajectory, self.time_s, targets)

    def step(self, steps: int = 1) -> None:
        """Advance by `steps` times STEP_S.

        Targets of the joints are set once per call: 5 steps (10 ms) a call keep them smooth.

        Raises:
            SimulationError: not 1 to 100,000 steps, or the physics became unstable.
        """
        if not 1 <= steps <= _MAX_STEPS:
            raise SimulationError(f"asked for {steps} steps; expected 1 to {_MAX_STEPS}")
        with self._lock:
            data = self._tabletop.data
            self._set_targets(float(data.time))
            self._tabletop.mj.mj_step(self._tabletop.model, data, steps)
            if not np.isfinite(data.qpos).all():
                raise SimulationError(f"the physics became unstable at {data.time:.3f} s; reset the world")

    def _set_targets(self, time_s: float) -> None:
        targets: dict[str, float] = {}
        if self._head_motion.pan_rad or self._head_motion.tilt_rad:
            pan, tilt = self._head_motion.at(time_s)
            camera = self._scene.camera
            targets["head_pan"] = float(np.clip(camera.pan_rad + pan, *PAN_RANGE_RAD))
            targets["head_tilt"] = float(np.clip(camera.tilt_rad + tilt, *TILT_RANGE_RAD))
        if self._follower is not None:
            targets |= self._follower.targets(time_s)
        for joint, value in targets.items():
            self._tabletop.data.ctrl[_INDEX[joint]] = value

    def joint_states(self) -> JointStates:
        """Positions and velocities of all actuated joints now."""
        with self._lock:
            data = self._tabletop.data
            return JointStates(
                float(data.time), JOINTS, np.array(data.qpos[self._qpos_of]), np.array(data.qvel[self._qvel_of])
            )

    def snapshot(self) -> Snapshot:
        """What a renderer needs to draw this moment."""
        with self._lock:
            return Snapshot(float(self._tabletop.data.time), self._scene, self._tabletop.snapshot())


_INDEX = {joint: index for index, joint in enumerate(JOINTS)}


def render_snapshot(renderer: TabletopRenderer, snapshot: Snapshot) -> LabelledFrame:
    """The frame of a snapshot, with its ground truth; `renderer.view()` then tells its projection."""
    return renderer.render_scene(snapshot.scene, snapshot.qpos)
