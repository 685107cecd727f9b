"""Whoever stands beside the simulated robot: reads joints and answers, commands nothing, measures where a hand is."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from arm_peer import PATIENCE_S, ArmPeer
from pace import Pace
from sensor_msgs.msg import CameraInfo, JointState
from vision_msgs.msg import Detection2DArray

from exaone_interfaces.msg import Decision
from exaone_ros.action.kinematics import Kinematics
from exaone_ros.ros.messages import time_to_ns
from exaone_ros.sim.mjcf import robot_mjcf

HAND_AT_M = 0.02


class Watcher(ArmPeer):
    """Leaves joints and camera to the simulator; keeps the newest of what it hears.

    Attributes:
        measured: newest joint positions by name.
        decisions, detections: all of them, in order of arrival.
    """

    def __init__(self, namespace: str) -> None:
        super().__init__(namespace)
        self.sends_joints = self.follows = False
        self.measured: dict[str, float] = {}
        self.decisions: list[Decision] = []
        self.detections: list[Detection2DArray] = []
        self._kinematics = Kinematics(robot_mjcf())
        self._pace = Pace()
        self.node.create_subscription(JointState, "joint_states", self._on_joints, 10)
        self.node.create_subscription(CameraInfo, "head_camera/camera_info", self._on_camera_info, 10)
        self.node.create_subscription(Decision, "decision", lambda m: self._keep(self.decisions, m), 10)
        self.node.create_subscription(Detection2DArray, "detections", lambda m: self._keep(self.detections, m), 10)

    def brings_hand_to(self, point: np.ndarray, attempt: Callable[[], None]) -> None:
        """Attempt it, and wait until a hand is within 20 mm of the point.

        The first attempt has to do where the simulator gets its share of the machine. Starved of it, it hears commands
        late and in heaps and cuts the corners of the path, and the hand may stay behind what stands there; the next
        attempt lifts it. So what was starved, and nothing else, is attempted again.
        """
        starved: list[str] = []
        for patience_s in (PATIENCE_S / 5, PATIENCE_S / 5, PATIENCE_S):
            with self.changed:
                self._pace, missed_before = Pace(), self._missed_ticks
            attempt()
            if self._hand_comes_to(point, patience_s):
                return
            with self.changed:
                self._pace.missed_ticks = self._missed_ticks - missed_before
                starved = self._pace.starved()
            if not starved:
                break
        raise AssertionError(
            f"no hand came within {HAND_AT_M} m of {point}, but {self._distance_m(point):.3f} m; what starved: "
            f"{starved or 'nothing'}; diagnostics: {self._diagnostics}"
        )

    def _hand_comes_to(self, point: np.ndarray, patience_s: float) -> bool:
        deadline_s = time.monotonic() + patience_s
        with self.changed:
            while not (there := self._distance_m(point) < HAND_AT_M) and (left_s := deadline_s - time.monotonic()) > 0:
                self.changed.wait(left_s)
            return there

    def _distance_m(self, point: np.ndarray) -> float:
        """From the nearer hand to a point, by the measured joints."""
        with self.changed:
            hands = (self._kinematics.site(f"{side}_grasp", self.measured).position for side in ("left", "right"))
            return min(float(np.linalg.norm(hand - point)) for hand in hands)

    @property
    def _missed_ticks(self) -> int:
        return int(self._diagnostics.get("loop.missed", "0"))

    def _on_joints(self, message: JointState) -> None:
        with self.changed:
            self.measured = dict(zip(message.name, message.position, strict=True))
            self._pace.joints_s.append((time.monotonic(), time_to_ns(message.header.stamp) * 1e-9))
            self.changed.notify_all()

    def _on_camera_info(self, message: CameraInfo) -> None:
        age_s = (self.now_ns() - time_to_ns(message.header.stamp)) * 1e-9
        with self.changed:
            self._pace.image_age_s = max(self._pace.image_age_s, age_s)

    def _keep(self, where: list, message: object) -> None:
        with self.changed:
            where.append(message)
            self.changed.notify_all()
