"""Several cameras, raw and compressed, on one node over real DDS: named topics, turns, and troubles that stay apart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest

pytest.importorskip("rclpy")

from peer import Pair, Peer, perceiving, red_box
from sensor_msgs.msg import CompressedImage, Image
from vision_msgs.msg import Detection2DArray

from exaone_interfaces.msg import ObjectCounts, Status, Task
from exaone_interfaces.srv import GetTasks, SetTasks
from exaone_ros.ros.image import rgb_to_image

S = 1_000_000_000
BOX = red_box(8, 16, 40, 32)
EACH = [Task(name="boxes", kind="ground", camera="*"), Task(name="number", kind="count", camera="wrist")]


def jpeg() -> CompressedImage:
    ok, data = cv2.imencode(".png", BOX[:, :, ::-1])
    assert ok
    return CompressedImage(format="rgb8; png compressed bgr8", data=data.tobytes())


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """A node with a raw camera, one with a topic of its own that is compressed, and one that never comes."""
    cameras = {
        "cameras": ["front", "wrist", "lost"],
        "wrist.image_topic": "hand/image",
        "wrist.image_transport": "compressed",
        "wrist.reliability": "",
        "camera_timeout_s": 60.0,
        "lost.camera_timeout_s": 5.0,
        "max_age_s": 60.0,
    }
    with perceiving(tmp_path_factory.mktemp("cameras"), **cameras) as made:
        peer = made.peer
        for camera in ("front", "wrist", "lost"):
            peer.listen(Detection2DArray, f"{camera}/detections")
        peer.listen(ObjectCounts, "wrist/counts")
        peer.listen(Status, "status")
        # The first of these lasts for the shortest camera_timeout_s only.
        peer.wait(lambda: peer.diagnostics().get("state") in ("starting", "degraded"), "an active node")
        assert peer.call(SetTasks, "set_tasks", SetTasks.Request(tasks=EACH)).success
        yield made


def send_both(peer: Peer) -> None:
    peer.send(BOX, topic="front/image_raw")
    peer.send(jpeg(), topic="hand/image/compressed")


def test_each_camera_answers_on_its_own_topics(pair: Pair) -> None:
    peer = pair.peer

    def all_there() -> bool:
        send_both(peer)
        return all(peer.received[topic] for topic in ("front/detections", "wrist/detections", "wrist/counts"))

    peer.stream(BOX, all_there, "answers of both cameras", topic="front/image_raw")
    for camera in ("front", "wrist"):
        (found,) = peer.received[f"{camera}/detections"][0].detections
        assert found.id == "boxes/0"
    assert [count.task for count in peer.received["wrist/counts"][0].counts] == ["number"]
    assert not peer.received["lost/detections"] and not peer.received["detections"]


def test_a_camera_that_is_not_there_degrades_the_node_and_is_named(pair: Pair) -> None:
    peer = pair.peer

    wanted = {"front": "ok", "wrist": "ok", "lost": "stale_camera"}

    def degraded() -> Status | None:
        send_both(peer)
        said = peer.received["status"]
        return said[-1] if said and {camera.name: camera.state for camera in said[-1].cameras} == wanted else None

    status = peer.stream(BOX, degraded, "one stale camera of three", topic="front/image_raw")
    assert status.state == "degraded" and "camera 'lost'" in status.reason and "nobody publishes" in status.reason
    topics = {camera.name: camera.topic for camera in status.cameras}
    assert topics["wrist"] == f"/{peer.namespace}/hand/image/compressed"
    ages = {camera.name: camera.age for camera in status.cameras}
    assert ages["lost"] < 0 <= ages["front"] and status.node == f"/{peer.namespace}/perception"

    def parts() -> set[str]:
        messages = list(peer.received["diagnostics"])
        return {entry.name.rpartition(": ")[2] for message in messages for entry in message.status}

    wanted_parts = {"node", "camera front", "camera wrist", "camera lost", "engine"}
    peer.wait(lambda: parts() >= wanted_parts, "a status of each part")


def test_a_broken_camera_does_not_stop_the_others(pair: Pair) -> None:
    peer = pair.peer
    broken = rgb_to_image(BOX)
    broken.step = 6

    def named() -> bool:
        peer.send(broken, topic="front/image_raw")
        stamp_ns = peer.send(jpeg(), topic="hand/image/compressed")
        said = [camera for status in peer.received["status"] for camera in status.cameras if camera.name == "front"]
        wrong = any(camera.state == "degraded" and "wrong_step" in camera.reason for camera in said)
        return wrong and peer.find("wrist/counts", stamp_ns) is None

    peer.stream(jpeg(), named, "the broken camera's name", topic="hand/image/compressed")
    stamp_ns = peer.send(jpeg(), topic="hand/image/compressed")
    peer.answer("wrist/detections", stamp_ns)
    assert pair.process.output().count("bad image (wrong_step)") == 1


def test_a_task_of_a_camera_that_is_unknown_is_refused(pair: Pair) -> None:
    peer = pair.peer
    before = peer.call(GetTasks, "get_tasks", GetTasks.Request()).tasks
    wrong = [Task(name="g", kind="ground", camera="rear")]
    response = peer.call(SetTasks, "set_tasks", SetTasks.Request(tasks=wrong))
    assert not response.success and "front, wrist, lost, or * for all" in response.problems[0]
    assert peer.call(GetTasks, "get_tasks", GetTasks.Request()).tasks == before
    assert [task.camera for task in before] == ["*", "wrist"]


def test_cameras_can_be_named_before_the_node_is_configured(tmp_path: Path) -> None:
    with perceiving(tmp_path, autostart=False, cameras=["a", "a"]) as pair:
        peer = pair.peer
        assert not peer.transition("configure")
        peer.wait(lambda: "names 'a' twice" in peer.diagnostics().get("reason", ""), "the reason")
        assert peer.set_parameter("cameras", ["left", "right"])[0]
        assert peer.set_parameter("right.image_topic", "other/image")[0]
        assert peer.transition("configure") and peer.transition("activate")
        peer.listen(Detection2DArray, "left/detections")
        publisher = peer.publisher(Image, "other/image")
        peer.wait(
            lambda: publisher.get_subscription_count() == 1 or (peer.changed.wait(0.1) and None), "the right camera"
        )
        peer.stream(BOX, lambda: peer.received["left/detections"], "an answer", topic="left/image_raw")
