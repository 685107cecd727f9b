"""Gazebo's numbers become the names that the MuJoCo simulator gives."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
import rclpy
from builtin_interfaces.msg import Time
from rclpy.executors import SingleThreadedExecutor
from std_msgs.msg import Header
from vision_msgs.msg import Detection2D, Detection2DArray

from exaone_ros.ros import qos
from exaone_ros.ros.children import Child
from exaone_ros.ros.messages import box_of, detection_message
from exaone_ros.ros.simulation import named_ground_truth
from exaone_ros.sim.vocabulary import LABELS, label_number

SENSOR = Header(stamp=Time(sec=3, nanosec=7), frame_id="exaone_humanoid/head_link/head_camera_boundingbox")


def boxes(*class_ids: str) -> Detection2DArray:
    found = [detection_message(SENSOR, "", number, (10.0, 20.0, 30.0, 60.0), 1.0) for number in class_ids]
    return Detection2DArray(header=SENSOR, detections=found)


def labels(message: Detection2DArray) -> list[str]:
    return [detection.results[0].hypothesis.class_id for detection in message.detections]


def test_every_label_has_its_number() -> None:
    named, unknown = named_ground_truth(boxes(*(str(label_number(label)) for label in LABELS)))
    assert labels(named) == list(LABELS) and unknown == []
    assert {"red cube", "black mug", "person", "obstacle"} <= set(LABELS) and len(LABELS) == 34


def test_box_and_stamp_stay_and_the_frame_is_the_cameras() -> None:
    named, _ = named_ground_truth(boxes("1"))
    assert named.header.stamp == SENSOR.stamp and named.header.frame_id == "head_camera_optical_frame"
    (detection,) = named.detections
    assert box_of(detection) == (10.0, 20.0, 30.0, 60.0) and detection.header == named.header


@pytest.mark.parametrize("number", ["0", "35", "-1", "cube", "", "1.5"])
def test_unknown_numbers_are_left_out_and_told(number: str) -> None:
    named, unknown = named_ground_truth(boxes("2", number))
    assert labels(named) == [LABELS[1]] and unknown == [number]


def test_a_box_without_hypothesis_is_left_out() -> None:
    message = boxes("2")
    message.detections.append(Detection2D())
    assert named_ground_truth(message)[1] == [""]


def test_the_node_relays(tmp_path: Path) -> None:
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node("gazebo_for_a_test", context=context)
    heard: list[Detection2DArray] = []
    came, stopping = threading.Event(), threading.Event()

    def take(message: Detection2DArray) -> None:
        heard.append(message)
        came.set()

    node.create_subscription(Detection2DArray, "/ground_truth/detections", take, qos.answers())
    publisher = node.create_publisher(Detection2DArray, "/ground_truth/boxes", qos.answers())
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)

    def spin() -> None:
        while not stopping.is_set():
            executor.spin_once(timeout_sec=0.2)

    thread = threading.Thread(target=spin, daemon=True)
    thread.start()
    try:
        with Child("gazebo_truth", [], tmp_path / "gazebo_truth.log") as child:
            deadline_s = time.monotonic() + 120
            while not came.wait(0.2):  # a message before both ends know each other is lost
                assert child.running and time.monotonic() < deadline_s, child.tail()
                publisher.publish(boxes("33", "99"))
        assert labels(heard[0]) == ["person"]
        log = child.log.read_text()
        assert log.count("'99'") == 1 and child.process.returncode == 0, log
    finally:
        stopping.set()
        thread.join()
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown(context=context)
