"""Whoever stands beside the simulated robot: reads joints and answers, commands nothing, measures where a hand is."""

from __future__ import annotations

import numpy as np
from arm_peer import ArmPeer
from sensor_msgs.msg import JointState
from vision_msgs.msg import Detection2DArray

from exaone_interfaces.msg import Decision
from exaone_ros.action.kinematics import Kinematics
from exaone_ros.sim.mjcf import robot_mjcf


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
