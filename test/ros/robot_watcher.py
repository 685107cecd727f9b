"""Whoever stands beside the simulated robot: reads joints and answers, commands nothing, measures where a hand is."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from arm_peer import PATIENCE_S, ArmPeer
from sensor_msgs.msg import JointState
from vision_msgs.msg import Detection2DArray

from exaone_interfaces.msg import Decision
from exaone_ros.action.kinematics import Kinematics
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
        self.node.create_subscription(JointState, "joint_states", self._on_joints, 10)
        self.node.create_subscription(Decision, "decision", lambda m: self._keep(self.decisions, m), 10)
        self.node.create_subscription(Detection2DArray, "detections", lambda m: self._keep(self.detections, m), 10)

    def brings_hand_to(self, point: np.ndarray, attempt: Callable[[], None]) -> None:
        """Attempt it until a hand is within 20 mm of the point.

        Once is enough where the simulator gets its share of the machine. Starved of it, it hears commands late and in
        heaps and cuts the corners of the path, and the hand may stay behind what stands there; the
        next attempt lifts it.
        """
        for patience_s in (PATIENCE_S / 5, PATIENCE_S / 5, PATIENCE_S):
            attempt()
            deadline_s = time.monotonic() + patience_s
            with self.changed:
                while distance_m(self.measured, point) >= HAND_AT_M and (left_s := deadline_s - time.monotonic()) > 0:
                    self.changed.wait(left_s)
                if distance_m(self.measured, point) < HAND_AT_M:
                    return
        raise AssertionError(f"no hand came within {HAND_AT_M} m of {point}; diagnostics: {self._diagnostics}")

    def _on_joints(self, message: JointState) -> None:
        with self.changed:
            self.measured = dict(zip(message.name, message.position, strict=True))
            self.changed.notify_all()

    def _keep(self, where: list, message: object) -> None:
        with self.changed:
            where.append(message)
            self.changed.notify_all()


def distance_m(positions: dict[str, float], point: np.ndarray) -> float:
    """From the nearer hand to a point, by the measured joints."""
    kinematics = Kinematics(robot_mjcf())
    hands = (kinematics.site(f"{side}_grasp", positions).position for side in ("left", "right"))
    return min(float(np.linalg.norm(hand - point)) for hand in hands)
