"""Gazebo with our world and robot, headless, asked as a user would: by topics. Run by `launch_test` (test_gazebo.py).

Gazebo may start and return success with a plugin missing, so what is asserted is motion, pictures and numbers.
The world's name is in EXAONE_GAZEBO_WORLD.
"""

from __future__ import annotations

import dataclasses
import math
import os
import threading
import time
import unittest
from collections import defaultdict
from collections.abc import Callable
from typing import Any, TypeVar

import launch_testing.actions
import launch_testing.asserts
import numpy as np
from launch.actions import RegisterEventHandler, SetEnvironmentVariable
from launch.event_handlers import OnProcessExit

from exaone_ros.ros.bringup import GAZEBO
from exaone_ros.ros.launch_plan import NodePlan
from exaone_ros.ros.launching import action_of
from launch import LaunchDescription

WORLD = os.environ.get("EXAONE_GAZEBO_WORLD", "tabletop")
PATIENCE_S = 180.0
FOVY_DEG, WIDTH, HEIGHT = 48.0, 640, 480
FOCAL_PX = HEIGHT / 2 / math.tan(math.radians(FOVY_DEG) / 2)
FRAME = "head_camera_optical_frame"
T = TypeVar("T")


def generate_test_description() -> tuple[Any, dict[str, Any]]:
    """The actions of gazebo.launch.py; the tests begin when the robot has been spawned."""
    steps = GAZEBO.resolve({"world": WORLD})
    actions = [action_of(step) for step in steps]
    (spawn,) = (
        action
        for step, action in zip(steps, actions, strict=True)
        if isinstance(step, NodePlan) and step.name == "spawn_robot"
    )
    # Gazebo has discovery of its own: a partition keeps other runs on this machine apart.
    partition = SetEnvironmentVariable("GZ_PARTITION", f"exaone_{os.getpid()}")
    ready = RegisterEventHandler(OnProcessExit(target_action=spawn, on_exit=[launch_testing.actions.ReadyToTest()]))
    return LaunchDescription([partition, *actions, ready]), {"spawn": spawn}


class Listener:
    """Keeps the latest messages; waits are for events."""

    def __init__(self) -> None:
        import rclpy
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
        from rosgraph_msgs.msg import Clock
        from sensor_msgs.msg import CameraInfo, Image, JointState
        from tf2_msgs.msg import TFMessage
        from trajectory_msgs.msg import JointTrajectory
        from vision_msgs.msg import Detection2DArray

        rclpy.init()
        self._rclpy = rclpy
        self.node = rclpy.create_node("gazebo_listener")
        self._changed = threading.Condition()
        self.received: dict[str, list[Any]] = defaultdict(list)
        best_effort = QoSProfile(depth=20, reliability=ReliabilityPolicy.BEST_EFFORT)
        latched = QoSProfile(depth=20, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        for topic, kind, qos in (
            ("/clock", Clock, best_effort),
            ("/head_camera/image_raw", Image, best_effort),
            ("/head_camera/camera_info", CameraInfo, best_effort),
            ("/head_camera/depth/image_raw", Image, best_effort),
            ("/joint_states", JointState, best_effort),
            ("/ground_truth/detections", Detection2DArray, best_effort),
            ("/tf", TFMessage, best_effort),
            ("/tf_static", TFMessage, latched),
        ):
            self.node.create_subscription(kind, topic, lambda m, topic=topic: self._take(topic, m), qos)
        self.trajectories = self.node.create_publisher(JointTrajectory, "/joint_trajectory", 10)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        while not self._stopping.is_set():
            self._executor.spin_once(timeout_sec=0.2)

    def _take(self, topic: str, message: Any) -> None:
        with self._changed:
            self.received[topic].append(message)
            del self.received[topic][:-200]
            self._changed.notify_all()

    def wait(self, find: Callable[[], T | None], what: str) -> T:
        deadline_s = time.monotonic() + PATIENCE_S
        with self._changed:
            while not (found := find()):
                counts = {topic: len(messages) for topic, messages in self.received.items()}
                assert time.monotonic() < deadline_s, f"waited in vain for {what}; messages so far: {counts}"
                self._changed.wait(0.5)
            return found

    def latest(self, topic: str) -> Any:
        return self.wait(lambda: self.received[topic][-1:], topic)[0]

    def after(self, topic: str, count: int = 3) -> Any:
        """The last of `count` messages that came from now on."""
        with self._changed:
            self.received[topic].clear()
        return self.wait(lambda: self.received[topic][-1:] if len(self.received[topic]) >= count else None, topic)[0]

    def joint(self, name: str) -> float:
        states = self.latest("/joint_states")
        return float(states.position[list(states.name).index(name)])

    def close(self) -> None:
        self._stopping.set()
        self._thread.join()
        self._executor.shutdown()
        self.node.destroy_node()
        self._rclpy.shutdown()


class TestGazebo(unittest.TestCase):
    """In the order of their names: the last ones move the robot."""

    listener: Listener

    @classmethod
    def setUpClass(cls) -> None:
        cls.listener = Listener()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.listener.close()

    def test_1_the_robot_was_spawned(self, proc_info: Any, spawn: Any) -> None:
        proc_info.assertWaitForShutdown(process=spawn, timeout=PATIENCE_S)
        launch_testing.asserts.assertExitCodes(proc_info, process=spawn)

    def test_2_time_goes_on(self) -> None:
        first = self.listener.latest("/clock").clock
        self.listener.wait(
            lambda: (
                (now := self.listener.received["/clock"][-1].clock)
                and now.sec + now.nanosec * 1e-9 > first.sec + first.nanosec * 1e-9 + 0.5
            ),
            "half a second of simulated time",
        )

    def test_3_the_projection_is_the_simulators(self) -> None:
        info = self.listener.latest("/head_camera/camera_info")
        self.assertEqual((info.width, info.height, info.header.frame_id), (WIDTH, HEIGHT, FRAME))
        k = np.reshape(info.k, (3, 3))
        self.assertTrue(np.allclose([k[0, 0], k[1, 1]], FOCAL_PX, rtol=1e-3), k)
        # Gazebo's principal point is W / 2; ours counts from pixel centres, W / 2 - 0.5.
        self.assertLessEqual(abs(k[0, 2] - (WIDTH / 2 - 0.5)), 0.51)
        self.assertLessEqual(abs(k[1, 2] - (HEIGHT / 2 - 0.5)), 0.51)
        self.assertFalse(np.any(np.array(info.d)))

    def test_4_pictures_and_depth_are_of_the_camera(self) -> None:
        image = self.listener.latest("/head_camera/image_raw")
        self.assertEqual((image.width, image.height, image.encoding), (WIDTH, HEIGHT, "rgb8"))
        self.assertEqual(image.header.frame_id, FRAME)
        pixels = np.frombuffer(image.data, np.uint8)
        self.assertGreater(float(pixels.std()), 5.0, "the picture is of one colour")
        depth = self.listener.latest("/head_camera/depth/image_raw")
        self.assertEqual((depth.width, depth.height, depth.encoding), (WIDTH, HEIGHT, "32FC1"))
        self.assertEqual(depth.header.frame_id, FRAME)
        centre = np.frombuffer(depth.data, np.float32).reshape(HEIGHT, WIDTH)[230:250, 310:330]
        self.assertTrue(np.isfinite(centre).all() and (centre > 0.2).all() and (centre < 6.0).all(), centre)

    def test_5_the_frames_lead_from_the_world_to_the_camera(self) -> None:
        def parents() -> dict[str, str] | None:
            messages = self.listener.received["/tf"] + self.listener.received["/tf_static"]
            found = {t.child_frame_id: t.header.frame_id for message in messages for t in message.transforms}
            frame = FRAME
            while frame in found:
                frame = found[frame]
            return found if frame == "world" else None

        self.listener.wait(parents, f"frames from the world to {FRAME}")

    def test_6_the_boxes_are_those_of_the_other_simulator(self) -> None:
        """The same world, drawn by MuJoCo from where Gazebo's head looks."""
        from exaone_ros.ros.messages import box_of
        from exaone_ros.sim.scene import HeadCamera
        from exaone_ros.sim.tabletop import TabletopRenderer
        from exaone_ros.sim.vocabulary import name
        from exaone_ros.sim.world_file import load_world

        self.settle("head_tilt")
        truth = self.listener.after("/ground_truth/detections")
        camera = HeadCamera(self.listener.joint("head_pan"), self.listener.joint("head_tilt"), FOVY_DEG)
        with TabletopRenderer(WIDTH, HEIGHT, shadows=False, samples=0) as renderer:
            frame = renderer.render_scene(dataclasses.replace(load_world(WORLD), camera=camera))
        expected = {
            name(thing.shape, thing.colour): thing.box for thing in frame.objects if thing.visible_fraction > 0.6
        }
        self.assertEqual(truth.header.frame_id, FRAME)
        found = {d.results[0].hypothesis.class_id: box_of(d) for d in truth.detections}
        for label, box in expected.items():
            self.assertIn(label, found)
            self.assertGreater(iou(found[label], box), 0.8, f"{label}: {found[label]} and {box}")

    def test_7_a_trajectory_moves_the_head_and_the_picture(self) -> None:
        from builtin_interfaces.msg import Duration
        from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

        before = np.frombuffer(self.listener.latest("/head_camera/image_raw").data, np.uint8).astype(int)
        start = self.listener.joint("head_pan")
        steps = 50  # Gazebo's controller holds each point until the next: it wants them dense
        points = []
        for step in range(1, steps + 1):
            time_ns = step * 1_000_000_000 // steps
            points.append(
                JointTrajectoryPoint(
                    positions=[start + (0.4 - start) * step / steps],
                    time_from_start=Duration(sec=time_ns // 1_000_000_000, nanosec=time_ns % 1_000_000_000),
                )
            )
        self.listener.wait(self.listener.trajectories.get_subscription_count, "the bridge's subscription")
        self.listener.trajectories.publish(JointTrajectory(joint_names=["head_pan"], points=points))
        self.listener.wait(lambda: abs(self.listener.joint("head_pan") - 0.4) < 0.03, "the head to turn")
        after = np.frombuffer(self.listener.after("/head_camera/image_raw").data, np.uint8).astype(int)
        self.assertGreater(float(np.abs(after - before).mean()), 2.0, "the picture did not move with the head")

    def settle(self, joint: str) -> None:
        """Wait until a joint is at rest."""

        def at_rest() -> bool:
            states = self.listener.received["/joint_states"][-50:]
            values = [s.position[list(s.name).index(joint)] for s in states]
            return len(values) == 50 and max(values) - min(values) < 1e-3

        self.listener.wait(at_rest, f"{joint} to come to rest")


def iou(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Intersection over union of two boxes (x1, y1, x2, y2)."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(0.0, width) * max(0.0, height)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union if union > 0 else 0.0
