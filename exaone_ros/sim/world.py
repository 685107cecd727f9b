"""The live world: physics, the robot's joints, and what its head camera sees right now.

Physics and rendering have a model each, so that they can run in two threads: `World` steps, `snapshot()` hands over a
copy of its state, and a `TabletopRenderer` draws that.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exaone_ros.errors import SimulationError
from exaone_ros.sim.frame import LabelledFrame
from exaone_ros.sim.humanoid import JOINTS, PAN_RANGE_RAD, TILT_RANGE_RAD
from exaone_ros.sim.mjcf import yaw_quaternion
from exaone_ros.sim.model import OBSTACLE_LABEL, PERSON_LABEL, TabletopModel
from exaone_ros.sim.scene import TABLE_TOP_M, Scene
from exaone_ros.sim.stage import PERSON_HEIGHT_M, PERSON_SIZE_M, Place, Stage
from exaone_ros.sim.tabletop import TabletopRenderer
from exaone_ros.sim.trajectory import Follower, Trajectory
from exaone_ros.sim.vocabulary import OBSTACLE, PERSON, name

STEP_S = 0.002
TARGET_STEPS = 5
"""Targets of the joints are set at multiples of so many steps (10 ms), whatever is asked for at once: so the way that
the robot takes does not depend on how its time is cut into pieces."""
MAX_STEPS = 100_000


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
class ObjectPose:
    """Where a thing of the scene is.

    Attributes:
        name: as in `Stage.all_names`.
        class_id: ``red cube`` and the like, ``person``, ``obstacle``.
        position: of its centre in the world frame, metres.
        quaternion: (x, y, z, w), thing to world.
        size_m: of a box around it, along its own axes.
    """

    name: str
    class_id: str
    position: tuple[float, float, float]
    quaternion: tuple[float, float, float, float]
    size_m: tuple[float, float, float]


@dataclass(frozen=True)
class Snapshot:
    """Attributes: simulated time; the scene that was set last; joint positions of everything that moves in it; where
    its things are."""

    time_s: float
    scene: Scene
    qpos: NDArray[np.float64]
    objects: tuple[ObjectPose, ...]


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
        self._stage = Stage.of(scene)
        self._tabletop.apply(scene)
        self._tabletop.mj.mj_forward(model, self._tabletop.data)

    @property
    def scene(self) -> Scene:
        """The scene that was set last, as it was set."""
        return self._stage.scene

    @property
    def names(self) -> tuple[str, ...]:
        """Names of everything in the scene."""
        return self._stage.all_names

    @property
    def time_s(self) -> float:
        """Simulated time since the start; scenes do not set it back."""
        return float(self._tabletop.data.time)

    @contextmanager
    def paused(self) -> Iterator[tuple[Any, Any]]:
        """(mujoco.MjModel, mujoco.MjData), which nobody changes inside the `with` block; for a viewer."""
        with self._lock:
            yield self._tabletop.model, self._tabletop.data

    def set_scene(self, scene: Scene) -> None:
        """Replace table, objects, person and light at once; the robot and its time go on as they are.

        Raises:
            SimulationError: the scene does not fit into the pool.
        """
        with self._lock:
            self._show(Stage.of(scene), frozenset())

    def reset(self, scene: Scene) -> None:
        """Begin anew with this scene: time is 0, the robot is at home, no trajectory is under way.

        Raises:
            SimulationError: the scene does not fit into the pool.
        """
        with self._lock:
            self._tabletop.apply(scene)
            self._tabletop.mj.mj_forward(self._tabletop.model, self._tabletop.data)
            self._stage, self._follower = Stage.of(scene), None

    def place(self, class_id: str, place: Place, wanted_name: str = "") -> str:
        """Put something new into the scene, at rest; everything else stays as it is. Returns its name.

        Raises:
            SimulationError: see `Stage.placed`; or it would be inside another body. Nothing has changed then.
        """
        with self._lock:
            stage, new_name = self._stage.placed(class_id, place, wanted_name)
            self._change(stage, new_name)
        return new_name

    def move(self, wanted: str, place: Place) -> None:
        """Put something somewhere else, at rest; everything else stays as it is.

        Raises:
            SimulationError: see `Stage.moved`; or it would be inside another body. Nothing has changed then.
        """
        with self._lock:
            self._change(self._stage.moved(wanted, place), wanted)

    def remove(self, wanted: str) -> None:
        """Take something away.

        Raises:
            SimulationError: there is nothing of that name.
        """
        with self._lock:
            stage = self._stage.removed(wanted)
            self._show(stage, frozenset(stage.names))

    def _change(self, stage: Stage, changed: str) -> None:
        """Show a stage in which one thing is new or elsewhere, unless that is inside another body."""
        before, qpos, qvel = self._stage, *self._state()
        self._show(stage, frozenset(stage.names) - {changed})
        label = {PERSON: PERSON_LABEL, OBSTACLE: OBSTACLE_LABEL}.get(changed)
        inside = self._tabletop.inside(stage.names.index(changed) if label is None else label)
        if inside is None:
            return
        self._show(before, frozenset())
        self._tabletop.data.qpos[:], self._tabletop.data.qvel[:] = qpos, qvel
        self._forward()
        of_label = dict(enumerate(stage.names)) | {PERSON_LABEL: PERSON, OBSTACLE_LABEL: OBSTACLE}
        what = of_label[inside] if isinstance(inside, int) else inside
        raise SimulationError(f"there the {changed} would be inside the {what}; choose another place, or move that")

    def _show(self, stage: Stage, kept: frozenset[str]) -> None:
        """Replace the stage; robot, time and the objects of these names go on as they are."""
        tabletop, data = self._tabletop, self._tabletop.data
        time, ctrl, before = data.time, np.array(data.ctrl), self._stage
        qpos, qvel = self._state()
        tabletop.apply(stage.scene)
        data.time, data.ctrl[:] = time, ctrl
        data.qpos[self._robot_qpos], data.qvel[self._robot_qvel] = qpos[self._robot_qpos], qvel[self._robot_qvel]
        for index, label in enumerate(stage.names):
            if label in kept:
                (old_qpos, old_qvel), (new_qpos, new_qvel) = (
                    tabletop.object_joint(i) for i in (before.names.index(label), index)
                )
                data.qpos[new_qpos], data.qvel[new_qvel] = qpos[old_qpos], qvel[old_qvel]
        self._stage = stage
        self._forward()

    def _state(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return np.array(self._tabletop.data.qpos), np.array(self._tabletop.data.qvel)

    def _forward(self) -> None:
        self._tabletop.mj.mj_forward(self._tabletop.model, self._tabletop.data)

    def set_trajectory(self, trajectory: Trajectory) -> None:
        """Follow a trajectory from now on, in place of an earlier one; where it moves the head, the sweep ends."""
        with self._lock:
            targets = {joint: float(self._tabletop.data.ctrl[i]) for i, joint in enumerate(JOINTS)}
            self._follower = Follower(trajectory, self.time_s, targets)

    def step(self, steps: int = 1) -> None:
        """Advance by `steps` times STEP_S.

        Raises:
            SimulationError: not 1 to 100,000 steps, or the physics became unstable.
        """
        if not 1 <= steps <= MAX_STEPS:
            raise SimulationError(f"asked for {steps} steps; expected 1 to {MAX_STEPS}")
        with self._lock:
            data = self._tabletop.data
            tick = round(data.time / STEP_S)
            end = tick + steps
            while tick < end:
                if tick % TARGET_STEPS == 0:
                    self._set_targets(float(data.time))
                piece = min(end, tick - tick % TARGET_STEPS + TARGET_STEPS) - tick
                self._tabletop.mj.mj_step(self._tabletop.model, data, piece)
                tick += piece
            if not np.isfinite(data.qpos).all():
                raise SimulationError(f"the physics became unstable at {data.time:.3f} s; reset the world")

    def _set_targets(self, time_s: float) -> None:
        targets: dict[str, float] = {}
        if self._head_motion.pan_rad or self._head_motion.tilt_rad:
            pan, tilt = self._head_motion.at(time_s)
            camera = self.scene.camera
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
            qpos = self._tabletop.snapshot()
            return Snapshot(float(self._tabletop.data.time), self.scene, qpos, self._object_poses(qpos))

    def _object_poses(self, qpos: NDArray[np.float64]) -> tuple[ObjectPose, ...]:
        scene = self.scene
        poses = []
        for index, (label, thing) in enumerate(zip(self._stage.names, scene.objects, strict=True)):
            x, y, z, qw, qx, qy, qz = (float(value) for value in qpos[self._tabletop.object_joint(index)[0]])
            size = (2 * thing.radius_m, 2 * thing.radius_m, thing.height_m)
            poses.append(ObjectPose(label, name(thing.shape, thing.colour), (x, y, z), (qx, qy, qz, qw), size))
        if scene.person is not None:
            person, height = scene.person, PERSON_HEIGHT_M + scene.person.raise_m
            where = (person.x_m, person.y_m, height / 2)
            poses.append(ObjectPose(PERSON, PERSON, where, _turned(person.yaw_rad), (*PERSON_SIZE_M, height)))
        if scene.obstacle is not None:
            box = scene.obstacle
            where = (box.x_m, box.y_m, TABLE_TOP_M + box.size_m[2] / 2)
            poses.append(ObjectPose(OBSTACLE, OBSTACLE, where, _turned(box.yaw_rad), box.size_m))
        return tuple(poses)


def _turned(yaw_rad: float) -> tuple[float, float, float, float]:
    w, x, y, z = yaw_quaternion(yaw_rad)
    return x, y, z, w


_INDEX = {joint: index for index, joint in enumerate(JOINTS)}


def render_snapshot(
    renderer: TabletopRenderer, snapshot: Snapshot, *, depth: bool = False, labels: bool = True
) -> LabelledFrame:
    """The frame of a snapshot, by default with its ground truth; `renderer.view()` then tells its projection."""
    return renderer.render_scene(snapshot.scene, snapshot.qpos, depth=depth, labels=labels)
