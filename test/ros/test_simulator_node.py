"""The simulator as a process of its own, heard over DDS like any robot."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import yaml
from builtin_interfaces.msg import Duration
from peer import Process, running
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, JointState
from spun import SpunNode
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint
from vision_msgs.msg import Detection2DArray

from exaone_ros.nodes.simulator import PARAMETERS
from exaone_ros.ros.children import Child
from exaone_ros.share import share_path
from exaone_ros.sim.live import LiveSettings
from exaone_ros.sim.sampling import SceneOptions
from exaone_ros.sim.tabletop import TabletopRenderer
from exaone_ros.sim.vocabulary import name

pytest.importorskip("mujoco")

PATIENCE_S = 180.0
TOPICS = {
    "/head_camera/image_raw": Image,
    "/head_camera/camera_info": CameraInfo,
    "/ground_truth/detections": Detection2DArray,
    "/joint_states": JointState,
    "/clock": Clock,
}
SMALL = {"width": 160, "height": 120, "rate_hz": 20.0, "shadows": False}
T = TypeVar("T")


def stamp_ns(message: Any) -> int:
    return int(message.header.stamp.sec) * 1_000_000_000 + int(message.header.stamp.nanosec)


def label_of(detection: Any) -> str:
    return str(detection.results[0].hypothesis.class_id)


class Listener(SpunNode):
    """Keeps everything that the simulator publishes; waits are for events."""

    def __init__(self) -> None:
        super().__init__("listener")
        self._changed = threading.Condition()
        self.received: dict[str, list[Any]] = defaultdict(list)
        reliable = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
        for topic, kind in TOPICS.items():
            self.node.create_subscription(kind, topic, lambda m, topic=topic: self._take(topic, m), reliable)
        self.trajectories = self.node.create_publisher(JointTrajectory, "/joint_trajectory", reliable)
        self._spin_from_now_on()

    def _take(self, topic: str, message: Any) -> None:
        with self._changed:
            self.received[topic].append(message)
            self._changed.notify_all()

    def wait(self, find: Callable[[], T | None], what: str, child: Child | Process) -> T:
        """Wait until `find` finds something; looked at again with every message."""
        deadline_s = time.monotonic() + PATIENCE_S
        with self._changed:
            while not (found := find()):
                assert child.running, f"the simulator has ended:\n{child.tail()}"
                assert time.monotonic() < deadline_s, f"waited in vain for {what}:\n{child.tail()}"
                self._changed.wait(0.5)
            return found

    def moments(self) -> list[tuple[Image, CameraInfo, Detection2DArray]]:
        """Images with the camera info and the truth of the same stamp."""
        infos = {stamp_ns(m): m for m in self.received["/head_camera/camera_info"]}
        truths = {stamp_ns(m): m for m in self.received["/ground_truth/detections"]}
        images = {stamp_ns(m): m for m in self.received["/head_camera/image_raw"]}
        return [(images[t], infos[t], truths[t]) for t in sorted(images.keys() & infos.keys() & truths.keys())]

    def wait_for_moments(self, count: int, child: Child) -> list[tuple[Image, CameraInfo, Detection2DArray]]:
        return self.wait(lambda: m if len(m := self.moments()) >= count else None, f"{count} moments", child)


@pytest.fixture
def listener() -> Iterator[Listener]:
    made = Listener()
    yield made
    made.close()


def simulator(folder: Path, **parameters: Any) -> Child:
    arguments = ["--ros-args"]
    for key, value in {**SMALL, **parameters}.items():
        arguments += ["-p", f"{key}:={str(value).lower() if isinstance(value, bool) else value}"]
    return Child("simulator", arguments, folder / "simulator.log")


def test_every_image_comes_with_its_camera_info_and_its_truth(listener: Listener, tmp_path: Path) -> None:
    with simulator(tmp_path, seed=3, min_objects=3) as child:
        image, info, truth = listener.wait_for_moments(5, child)[-1]
        assert 0 <= time.time_ns() - stamp_ns(image) < 60e9
    assert {m.header.frame_id for m in (image, info, truth)} == {"head_camera_optical_frame"}
    assert (image.height, image.width, image.encoding, image.step) == (120, 160, "rgb8", 480)
    focal = 60 / np.tan(np.radians(48) / 2)
    assert (info.height, info.width) == (120, 160)
    assert np.allclose(info.k, [focal, 0, 79.5, 0, focal, 59.5, 0, 0, 1])
    assert np.allclose(np.reshape(info.p, (3, 4))[:, :3].ravel(), info.k)

    # The truth is about this very image: it is what rendering the same scene here gives.
    options = SceneOptions(objects=(3, 10), fovy_deg=(48.0, 48.0), camera_jitter=0.0)
    scene = LiveSettings(width=160, height=120, seed=3, options=options).scene(0)
    with TabletopRenderer(160, 120, shadows=False, samples=0) as renderer:
        expected = renderer.render_scene(scene)
    pixels = np.frombuffer(image.data, np.uint8).reshape(120, 160, 3)
    assert np.abs(pixels.astype(int) - expected.image).mean() < 2.0
    labels = [name(thing.shape, thing.colour) for thing in expected.objects]
    others = {"person": expected.person, "obstacle": expected.obstacle}
    labels += [label for label, box in others.items() if box is not None]
    assert sorted(map(label_of, truth.detections)) == sorted(labels)
    boxes = [*(thing.box for thing in expected.objects), *(box for box in others.values() if box is not None)]
    for detection in truth.detections:
        assert detection.header == truth.header and 0 < detection.results[0].hypothesis.score <= 1
        x, y = detection.bbox.center.position.x, detection.bbox.center.position.y
        half = detection.bbox.size_x / 2, detection.bbox.size_y / 2
        box = (x - half[0], y - half[1], x + half[0], y + half[1])
        same = [b for b, label in zip(boxes, labels, strict=True) if label == label_of(detection)]
        assert min(np.abs(np.subtract(box, b)).max() for b in same) <= 1.0


def test_a_new_scene_after_each_period(listener: Listener, tmp_path: Path) -> None:
    def tables() -> set[frozenset[str]]:
        truths = listener.received["/ground_truth/detections"]
        return {frozenset(map(label_of, truth.detections)) for truth in truths}

    with simulator(tmp_path, scene_period_s=0.5, min_objects=2) as child:
        listener.wait(lambda: len(tables()) >= 3, "three different tables", child)


def test_a_world_file_is_what_the_camera_sees(listener: Listener, tmp_path: Path) -> None:
    world = tmp_path / "two.yaml"
    world.write_text(
        "objects: [{shape: cube, colour: red, x_m: 0.6, y_m: 0.1}, {shape: mug, colour: blue, x_m: 0.6, y_m: -0.1}]"
    )
    with simulator(tmp_path, world=str(world)) as child:
        _, _, truth = listener.wait_for_moments(2, child)[-1]
    assert sorted(map(label_of, truth.detections)) == ["blue mug", "red cube"]


def test_trajectory_moves_the_robot_and_a_bad_one_is_refused(listener: Listener, tmp_path: Path) -> None:
    point = JointTrajectoryPoint(positions=[0.4], time_from_start=Duration(sec=0, nanosec=200_000_000))

    def pan() -> float:
        states = listener.received["/joint_states"]
        return float(states[-1].position[states[-1].name.index("head_pan")]) if states else 0.0

    with simulator(tmp_path) as child:
        listener.wait(lambda: listener.received["/joint_states"], "joint states", child)
        listener.wait(listener.trajectories.get_subscription_count, "the simulator's subscription", child)

        sent_s = -math.inf

        def turned() -> bool:  # sent again each second: who is found by a publisher has not always found it too
            nonlocal sent_s
            if time.monotonic() > sent_s + 1.0:
                sent_s = time.monotonic()
                for joint in ("tail", "head_pan"):
                    listener.trajectories.publish(JointTrajectory(joint_names=[joint], points=[point]))
            return abs(pan() - 0.4) < 0.05

        listener.wait(turned, "the head to turn", child)
        assert "trajectory refused" in child.log.read_text() and "tail" in child.log.read_text()


def test_clock_of_the_simulation_stamps_everything(listener: Listener, tmp_path: Path) -> None:
    with simulator(tmp_path, publish_clock=True) as child:
        moments = listener.wait_for_moments(3, child)
        clocks = listener.wait(lambda: c if len(c := listener.received["/clock"]) > 10 else None, "a clock", child)
    times_s = [c.clock.sec + c.clock.nanosec * 1e-9 for c in clocks]
    assert times_s == sorted(times_s) and times_s[-1] < 600
    assert 0 < stamp_ns(moments[0][0]) < 600e9


def test_no_clock_unless_asked(listener: Listener, tmp_path: Path) -> None:
    with simulator(tmp_path, **{"qos_overrides./joint_states.publisher.depth": 3}) as child:
        listener.wait(lambda: len(listener.received["/joint_states"]) > 10, "joint states", child)
    assert not listener.received["/clock"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ends_cleanly_and_soon(listener: Listener, tmp_path: Path, number: int) -> None:
    code = (
        "from exaone_ros.nodes import simulator\n"
        "from exaone_ros.ros import spin\n"
        f"spin.END_WITHIN_S = {PATIENCE_S}\n"  # the test's machine may be busy
        "simulator.main()"
    )
    with running(["-c", code, "--ros-args", "-p", "shadows:=false"], tmp_path / "simulator.log") as made:
        listener.wait(listener.moments, "a moment", made)
        threads = {path.read_text().strip() for path in Path(f"/proc/{made.process.pid}/task").glob("*/comm")}
        assert not any("disk$" in thread for thread in threads)  # Mesa's, of idle priority: it delays the end
        assert made.end(number) == 0, made.output()
        assert "Traceback" not in made.output() and "not ended in order" not in made.output()


@pytest.mark.parametrize(
    ("parameters", "word"),
    [
        ({"widht": 320}, "did you mean 'width'"),
        ({"rate_hz": 0.0}, "rate_hz"),
        ({"world": "tabeltop"}, "did you mean 'tabletop'"),
        ({"qos_overrides./head_camera/image.publisher.depth": 3}, "/head_camera/image_raw.publisher"),
        ({"min_objects": 5, "max_objects": 2}, "objects"),
    ],
)
def test_bad_parameters_are_refused(tmp_path: Path, parameters: dict[str, Any], word: str) -> None:
    with simulator(tmp_path, **parameters) as child:
        assert child.process.wait(PATIENCE_S) == 1
        log = child.log.read_text()
    assert word in log and "Traceback" not in log, "one line says what is wrong"


def test_without_opengl_the_process_says_what_to_install(tmp_path: Path) -> None:
    blind = {"__EGL_VENDOR_LIBRARY_DIRS": "/nonexistent", "MUJOCO_GL": "egl"}
    with Child("simulator", [], tmp_path / "simulator.log", blind) as child:
        assert child.process.wait(PATIENCE_S) == 1
        assert "libegl1" in child.log.read_text()


def test_the_yaml_lists_every_parameter_with_its_default() -> None:
    listed = yaml.safe_load(share_path("config/simulator.yaml").read_text())["/**"]["ros__parameters"]
    assert listed == {parameter.name: parameter.default for parameter in PARAMETERS}
