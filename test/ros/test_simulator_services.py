"""The stepped simulator as a process: its services, and what its topics say about one and the same moment."""

from __future__ import annotations

import hashlib
import math
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point, Pose, PoseStamped, Quaternion
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState
from spun import SpunNode
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint
from vision_msgs.msg import Detection2DArray, Detection3DArray

from exaone_interfaces.srv import PlaceObject
from exaone_ros.errors import SimulationError
from exaone_ros.ros.children import Child
from exaone_ros.ros.image import image_to_depth_m
from exaone_ros.ros.messages import box_of, time_to_ns
from exaone_ros.ros.simulator_client import SimulatorClient
from exaone_ros.sim.trajectory import MAX_POINTS
from exaone_ros.sim.viewer import check_display

pytest.importorskip("mujoco")

PATIENCE_S = 120.0
TOPICS = {
    "/head_camera/image_raw": Image,
    "/head_camera/image_raw/compressed": CompressedImage,
    "/head_camera/camera_info": CameraInfo,
    "/head_camera/depth/image_raw": Image,
    "/head_camera/depth/camera_info": CameraInfo,
    "/ground_truth/detections": Detection2DArray,
    "/ground_truth/objects": Detection3DArray,
    "/ground_truth/camera_pose": PoseStamped,
}
WIDTH, HEIGHT = 320, 240


class Stage(SpunNode):
    """A simulator's process, a node that calls and hears it, and what it has heard."""

    def __init__(self, folder: Path, **parameters: Any) -> None:
        super().__init__("audience")
        self._changed = threading.Condition()
        self.received: dict[str, dict[int, Any]] = defaultdict(dict)
        self.clocks: list[int] = []
        self.joints: list[JointState] = []
        reliable = QoSProfile(depth=50, reliability=ReliabilityPolicy.RELIABLE)
        for topic, kind in TOPICS.items():
            self.node.create_subscription(kind, topic, lambda m, topic=topic: self._take(topic, m), reliable)
        self.node.create_subscription(Clock, "/clock", lambda m: self.clocks.append(time_to_ns(m.clock)), reliable)
        self.node.create_subscription(JointState, "/joint_states", self.joints.append, reliable)
        self.trajectories = self.node.create_publisher(JointTrajectory, "/joint_trajectory", reliable)
        self.client = SimulatorClient(self.node, timeout_s=PATIENCE_S)
        self._spin_from_now_on()
        arguments = ["--ros-args"]
        for key, value in parameters.items():
            arguments += ["-p", f"{key}:={str(value).lower() if isinstance(value, bool) else value}"]
        self.child = Child("simulator", arguments, folder / "simulator.log")

    def _take(self, topic: str, message: Any) -> None:
        with self._changed:
            self.received[topic][time_to_ns(message.header.stamp)] = message
            self._changed.notify_all()

    def wait(self, find: Callable[[], Any], what: str) -> Any:
        deadline_s = time.monotonic() + PATIENCE_S
        with self._changed:
            while not (found := find()):
                assert self.child.running, f"the simulator has ended:\n{self.child.tail()}"
                assert time.monotonic() < deadline_s, f"waited in vain for {what}:\n{self.child.tail()}"
                self._changed.wait(0.2)
            return found

    def match(self) -> None:
        """Wait until every topic has been heard once: from then on nothing is lost, and nothing is still on its way."""
        deadline_s = time.monotonic() + PATIENCE_S
        while len(self.received) < len(TOPICS):
            assert time.monotonic() < deadline_s, f"heard only {sorted(self.received)}:\n{self.child.tail()}"
            self.client.step(duration_s=0.1)
            with self._changed:
                self._changed.wait(0.1)
        self.moment()

    def moment(self) -> dict[str, Any]:
        """One more image, and everything that was said with its stamp."""
        stepped = self.client.step(duration_s=0.1)
        assert stepped.images == 1
        return {
            topic: self.wait(lambda topic=topic: self.received[topic].get(stepped.stamp_ns), f"{topic} of this moment")
            for topic in TOPICS
        }

    def close(self) -> None:
        super().close()
        self.child.stop()


# First of all, because its simulator has the name and the clock of the one that the others share.
def test_in_real_time_things_are_placed_and_time_begins_anew(tmp_path: Path) -> None:
    stage = Stage(tmp_path, rate_hz=5.0, width=160, height=120, shadows=False, max_objects=0, publish_clock=True)
    try:
        with pytest.raises(SimulationError, match="stepped:=true"):
            stage.client.step(steps=1)
        stage.client.place("red cube", 0.6, 0.0)

        def shown() -> int:
            newest = max(stage.received["/ground_truth/detections"].items(), default=(0, None))
            return newest[0] if newest[1] is not None and len(newest[1].detections) else 0

        before_ns = stage.wait(shown, "the cube in the picture")
        stage.clocks.clear()
        stage.client.reset()
        stage.wait(lambda: any(b < a for a, b in zip(stage.clocks, stage.clocks[1:], strict=False))
                   or (stage.clocks and stage.clocks[0] < before_ns), "a clock that begins anew")  # fmt: skip
    finally:
        stage.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    made = Stage(
        tmp_path_factory.mktemp("simulator"),
        stepped=True, rate_hz=10.0, width=WIDTH, height=HEIGHT, shadows=False, max_objects=0, person_share=0.0,
        obstacle_share=0.0, head_pan_amplitude_rad=0.1, head_period_s=3.0,
    )  # fmt: skip
    try:
        made.match()
        yield made
    finally:
        made.close()


@pytest.fixture
def stage(running: Stage) -> Stage:
    """The simulator at its start, with an empty table."""
    running.client.reset()
    running.received.clear()  # the stamps begin anew: what an earlier test heard must not be taken for this one's
    return running


def rotation_of(q: Quaternion) -> np.ndarray:
    x, y, z, w = q.x, q.y, q.z, q.w
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def test_poses_projected_with_camera_info_are_where_the_image_shows_them(stage: Stage) -> None:
    for x_m, y_m, colour in ((0.55, 0.15, "red"), (0.70, -0.12, "blue"), (0.80, 0.25, "green")):
        stage.client.place(f"{colour} ball", x_m, y_m)
    for _ in range(3):  # the head pans meanwhile
        moment = stage.moment()
        info, camera = moment["/head_camera/camera_info"], moment["/ground_truth/camera_pose"].pose
        truth = {d.results[0].hypothesis.class_id: box_of(d) for d in moment["/ground_truth/detections"].detections}
        objects = moment["/ground_truth/objects"].detections
        depth = image_to_depth_m(moment["/head_camera/depth/image_raw"])
        pixels = np.frombuffer(moment["/head_camera/image_raw"].data, np.uint8).reshape(HEIGHT, WIDTH, 3)
        assert sorted(d.id for d in objects) == ["blue_ball", "green_ball", "red_ball"] and len(truth) == 3
        k = np.reshape(info.k, (3, 3))
        at, turn = camera.position, rotation_of(camera.orientation)
        for thing in objects:
            centre = thing.bbox.center.position
            local = turn.T @ np.subtract((centre.x, centre.y, centre.z), (at.x, at.y, at.z))
            u, v = (k @ (local / local[2]))[:2]
            x1, y1, x2, y2 = truth[thing.results[0].hypothesis.class_id]
            # A ball's box is a little off its projected centre (perspective); ROS pixels count from their centres.
            assert math.hypot((x1 + x2) / 2 - 0.5 - u, (y1 + y2) / 2 - 0.5 - v) < 1.5
            # Aligned with the image: the ball's nearest point lies one radius before its centre.
            radius, range_m = thing.bbox.size.x / 2, float(np.linalg.norm(local))
            surface = depth[round(v), round(u)] * range_m / local[2]
            assert surface == pytest.approx(range_m - radius, abs=0.003)
            wanted = {"red": 0, "green": 1, "blue": 2}[thing.id.split("_")[0]]
            assert pixels[round(v), round(u)].argmax() == wanted
    assert moment["/head_camera/depth/camera_info"] == info
    assert moment["/head_camera/depth/image_raw"].encoding == "32FC1"
    assert moment["/ground_truth/objects"].header.frame_id == moment["/ground_truth/camera_pose"].header.frame_id


def test_the_compressed_image_is_the_same_picture(stage: Stage) -> None:
    stage.client.place("red cube", 0.6, 0.0)
    moment = stage.moment()
    raw = np.frombuffer(moment["/head_camera/image_raw"].data, np.uint8).reshape(HEIGHT, WIDTH, 3)
    jpeg = moment["/head_camera/image_raw/compressed"]
    assert jpeg.format == "rgb8; jpeg compressed bgr8" and jpeg.header == moment["/head_camera/image_raw"].header
    decoded = cv2.imdecode(np.frombuffer(jpeg.data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert np.abs(decoded.astype(int) - raw).mean() < 3.0


def test_identical_frames_for_identical_seeds_over_the_topics(stage: Stage) -> None:
    def tell() -> list[tuple[int, str]]:
        stage.client.reset()
        stage.received.clear()
        stage.client.load_scene(1_000_000_007)
        told = []
        for _ in range(3):
            image = stage.moment()["/head_camera/image_raw"]
            told.append((time_to_ns(image.header.stamp), hashlib.sha256(bytes(image.data)).hexdigest()))
        return told

    first = tell()
    assert first == tell() and len({picture for _, picture in first}) == 3


def test_the_world_stands_still_and_says_the_time(stage: Stage) -> None:
    stamp_ns = stage.client.step(steps=3).stamp_ns
    assert stamp_ns == 8_000_000  # the first step is made at the start
    stage.wait(lambda: stage.clocks[-3:] == [stamp_ns] * 3, "the clock of a world that stands still")


def test_scenes_by_seed_hold_to_the_parameters(stage: Stage) -> None:
    assert stage.client.load_scene(3) == []  # this simulator was told to put nothing on the table
    stage.client.place("obstacle", 0.5, 0.0)
    assert stage.client.load_scene(3) == []


def test_what_is_refused_changes_nothing(stage: Stage) -> None:
    client = stage.client
    client.place("red cube", 0.6, 0.0)
    for attempt, words in (
        (lambda: client.place("red dragon", 0.6, 0.3), "red dragon"),
        (lambda: client.place("blue cube", 0.61, 0.01), "inside the red_cube"),
        (lambda: client.place("blue cube", 5.0, 0.0), "off the table"),
        (lambda: client.place("blue cube", float("nan"), 0.0), "finite"),
        (lambda: client.move("blue_cube", 0.6, 0.3), "nothing named 'blue_cube'; there are red_cube"),
        (lambda: client.remove("person"), "nothing named 'person'"),
        (lambda: client.step(), "neither"),
        (lambda: client.step(1.0, 5), "one of the two"),
        (lambda: client.step(duration_s=-1.0), "at least one step"),
        (lambda: client.step(steps=10**6), "steps"),
    ):
        with pytest.raises(SimulationError, match=words):
            attempt()
    request = PlaceObject.Request(class_id="blue cube", pose=Pose(position=Point(x=0.6, y=0.3)))
    request.pose.orientation = Quaternion(x=0.5, y=0.5, z=0.5, w=0.5)
    with pytest.raises(SimulationError, match="upright"):
        client._call("place_object", request)
    assert [d.id for d in stage.moment()["/ground_truth/objects"].detections] == ["red_cube"]


def test_bad_trajectories_are_refused_and_a_good_one_is_followed_exactly(stage: Stage) -> None:
    def trajectory(*points: tuple[float, float], joint: str = "right_elbow") -> JointTrajectory:
        made = JointTrajectory(joint_names=[joint])
        for time_s, position in points:
            at = Duration(sec=int(time_s // 1), nanosec=round((time_s % 1) * 1e9))
            made.points.append(JointTrajectoryPoint(positions=[position], time_from_start=at))
        return made

    def refused() -> int:
        return stage.child.log.read_text().count("trajectory refused")

    stage.wait(stage.trajectories.get_subscription_count, "the simulator's subscription")
    for number, bad in enumerate(
        (
            trajectory((0.1, 0.5), joint="tail"),
            trajectory((0.1, float("nan"))),
            trajectory((0.5, -1.2), (0.2, -1.4)),
            trajectory(*((0.001 * n, -1.2) for n in range(1, MAX_POINTS + 2))),
            trajectory(),
        ),
        start=refused() + 1,
    ):
        stage.trajectories.publish(bad)
        stage.wait(lambda number=number: refused() >= number, f"refusal {number}")
    stage.trajectories.publish(trajectory((0.2, -1.3), (0.6, -1.7)))

    def elbow() -> float:
        return float(stage.joints[-1].position[stage.joints[-1].name.index("right_elbow")])

    for _ in range(100):  # it may arrive after the next request to step: then the way begins a little later
        stage.moment()
        if abs(elbow() + 1.7) < 0.02:
            break
    assert elbow() == pytest.approx(-1.7, abs=0.02)


def test_a_viewer_without_a_display_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SimulationError, match="no display"):
        check_display({})
    check_display({"DISPLAY": ":0"})
    arguments = ["--ros-args", "-p", "viewer:=true"]
    nowhere = {"DISPLAY": "", "WAYLAND_DISPLAY": ""}
    with Child("simulator", arguments, tmp_path / "simulator.log", nowhere) as child:
        assert child.process.wait(PATIENCE_S) == 1
        assert "there is no display" in child.log.read_text()
