"""Remapped images take their compressed kin and camera_info along, in every node of a camera."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy")

import rclpy
from peer import perceiving, red_box
from rclpy.node import Node
from test_perception_cameras import jpeg

from exaone_ros.nodes import rerun_view
from exaone_ros.nodes.companion import Companion
from exaone_ros.nodes.rerun_view import RerunView
from exaone_ros.ros import qos
from exaone_ros.ros.remapping import camera_info_topic, compressed_topic
from exaone_ros.ros.simulator_topics import SimulatorTopics


def rules(*remappings: str) -> dict[str, Any]:
    """Arguments of a node with these rules, in the namespace /exaone."""
    return {"cli_args": ["--ros-args", "-r", "__ns:=/exaone", *(w for rule in remappings for w in ("-r", rule))]}


def topics(ends: Any) -> set[str]:
    return {end.topic_name for end in ends}


@pytest.mark.parametrize(
    ("images", "remappings", "compressed", "info"),
    [
        ("image_raw", [], "/exaone/image_raw/compressed", "/exaone/camera_info"),
        ("image_raw", ["image_raw:=/cam/image"], "/cam/image/compressed", "/cam/camera_info"),
        ("image_raw/compressed", ["image_raw:=/cam/image"], "/cam/image/compressed", "/cam/camera_info"),
        ("~/eye", ["~/eye:=eye"], "/exaone/eye/compressed", "/exaone/camera_info"),
        ("~/eye", [], "/exaone/node/eye/compressed", "/exaone/node/camera_info"),
        ("image_raw", ["node:image_raw:=/cam/image"], "/cam/image/compressed", "/cam/camera_info"),
        ("image_raw", ["other:image_raw:=/cam/image"], "/exaone/image_raw/compressed", "/exaone/camera_info"),
        (
            "image_raw",
            ["image_raw:=/cam/image", "image_raw/compressed:=/jpeg", "camera_info:=/info"],
            "/jpeg",
            "/info",
        ),
        ("left", ["left:=right", "right:=left"], "/exaone/right/compressed", "/exaone/camera_info"),
    ],
)
def test_what_is_named_after_the_images_follows_them(
    context: rclpy.Context, images: str, remappings: list[str], compressed: str, info: str
) -> None:
    node = Node("node", context=context, **rules(*remappings))
    assert node.resolve_topic_name(compressed_topic(node, images)) == compressed
    assert node.resolve_topic_name(camera_info_topic(node, images)) == info
    node.destroy_node()


def test_the_perception_node_sees_a_remapped_compressed_camera(tmp_path: Path) -> None:
    remap = ("--ros-args", "-r", "image_raw:=cam/image", "--")
    with perceiving(tmp_path, *remap, image_transport="compressed") as pair:
        peer = pair.peer
        wanted = f"/{peer.namespace}/cam/image/compressed"
        peer.wait(lambda: peer.diagnostics().get("topic") == wanted, "the topic's name in diagnostics")
        peer.stream(jpeg(), lambda: peer.received["detections"], "an answer", topic="cam/image/compressed")
        assert f"looking at {wanted}" in pair.process.output()


def test_the_perception_node_sees_a_remapped_raw_camera(tmp_path: Path) -> None:
    remap = ("--ros-args", "-r", "~/eye:=cam/image", "--")
    with perceiving(tmp_path, *remap, image_topic="~/eye") as pair:
        peer = pair.peer
        wanted = f"/{peer.namespace}/cam/image"
        peer.wait(lambda: peer.diagnostics().get("topic") == wanted, "the topic's name in diagnostics")
        peer.stream(red_box(1, 1, 9, 9), lambda: peer.received["detections"], "an answer", topic="cam/image")


def test_the_companion_follows(context: rclpy.Context) -> None:
    overrides = [rclpy.Parameter("image_transport", value="compressed"), rclpy.Parameter("depth_topic", value="depth")]
    remappings = rules("image_raw:=/cam/image", "annotated:=/drawn")
    node = Companion(context=context, parameter_overrides=overrides, **remappings)
    node.open_all()
    assert {"/cam/image/compressed", "/cam/camera_info", "/exaone/depth"} <= topics(node.subscriptions)
    assert {"/drawn", "/drawn/compressed"} <= topics(node.publishers)
    node.destroy_node()


@pytest.mark.parametrize("images", ["image_raw", "image_raw/compressed"])
def test_the_rerun_view_follows(context: rclpy.Context, monkeypatch: pytest.MonkeyPatch, images: str) -> None:
    monkeypatch.setattr(rerun_view, "RerunLog", lambda _file: None)
    overrides = [rclpy.Parameter("image_transport", value="compressed"), rclpy.Parameter("image_topic", value=images)]
    node = RerunView(context=context, parameter_overrides=overrides, **rules("image_raw:=/cam/image"))
    assert "/cam/image/compressed" in topics(node.subscriptions)
    node.destroy_node()


def test_the_simulated_camera_follows(context: rclpy.Context) -> None:
    node = Node("simulator", context=context, **rules("head_camera/image_raw:=/cam/image"))
    SimulatorTopics(node, qos.OverridableTopics(node), clock=False)
    published = topics(node.publishers)
    assert {"/cam/image", "/cam/image/compressed", "/cam/camera_info"} <= published
    assert "/exaone/head_camera/depth/camera_info" in published
    node.destroy_node()
