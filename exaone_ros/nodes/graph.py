"""What the nodes talk to, found by making them: `python -m exaone_ros.nodes.graph policy|page|json|write`.

Each node is made in this process with its optional parts on and an engine that loads nothing, and is asked which
topics, services and actions it has opened. So the SROS 2 policy and the page of interfaces cannot lag behind the code.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import rclpy
from rclpy.action import get_action_client_names_and_types_by_node, get_action_server_names_and_types_by_node
from rclpy.node import Node

from exaone_ros.errors import ExaoneError
from exaone_ros.ros.messages_page import messages_page
from exaone_ros.ros.policy import NodeGraph, interfaces_page, policy_xml

NAMESPACE = "/exaone"
POLICY, PAGE, MESSAGES = "config/sros2_policy.xml", "docs/interfaces.md", "docs/messages.md"
MEANINGS = {
    "annotated": "answers drawn onto the image that they were read from; only while subscribed",
    "annotated/compressed": "the same as JPEG",
    "ask": "one question about what the camera sees, answered once",
    "camera_info": "calibration of the camera",
    "clock": "simulated time, where `publish_clock` is set",
    "counts": "how many objects there are; all count tasks of one image",
    "decision": "one of the options of a decide task, with probabilities",
    "depth": "parameter `depth_topic`: depth that is aligned with the image",
    "detections": "boxes in pixels of the image; empty where nothing was seen",
    "detections_3d": "boxes in the camera's optical frame, or in `target_frame`",
    "detections_tracked": "boxes at the camera's rate, see docs/companion.md",
    "diagnostics": "state, rates, latencies, what was dropped and why; once a second",
    "get_tasks": "what is asked now",
    "ground_truth/detections": "what is truly on the image of the same stamp",
    "action_chunk": "what the head wants to do next, where the gate lets it through",
    "estop": "true stops all motion until `reset_estop`",
    "heartbeat": "must go on while a goal runs",
    "reset_estop": "allow motion again",
    "head_camera/camera_info": "calibration of the simulated camera",
    "ground_truth/camera_pose": "of the optical frame in the frame `world`, at the stamp of the image",
    "ground_truth/objects": "where everything is, seen or not, in the frame `world`",
    "head_camera/depth": "depth of the simulated camera",
    "head_camera/depth/camera_info": "that of the image",
    "head_camera/depth/image_raw": "depth aligned with the image, 32FC1 in metres; only while subscribed",
    "head_camera/image_raw": "the simulated camera",
    "head_camera/image_raw/compressed": "the same as JPEG; only while subscribed",
    "simulator/load_scene": "lay the table that a seed stands for",
    "simulator/move_object": "put something elsewhere, by name",
    "simulator/place_object": "put something new into the scene",
    "simulator/remove_object": "take something away, by name",
    "simulator/reset": "first scene, robot at home, time from the start",
    "simulator/step": "with `stepped`: let simulated time go on",
    "image_raw": "parameter `image_topic`: the camera",
    "joint_states": "positions and velocities of the robot's joints",
    "joint_trajectory": "where the joints are to go",
    "markers": "the same for RViz and Foxglove; only while subscribed",
    "run_policy": "carry out an instruction by moving the robot",
    "set_tasks": "replace what is asked, all or nothing",
    "answer": "what a standing question in words was answered",
    "status": "heartbeat: the node's state and its cameras",
    "tasks": "what is asked now; latched",
}


class NoEngine:
    """Stands in for the engine: nothing is asked of it here."""

    refusal = ""

    def __getattr__(self, name: str) -> Any:
        return lambda *_arguments, **_named: True


def graphs(image_topic: str = "image_raw", depth_topic: str = "depth") -> list[NodeGraph]:
    """All nodes that a robot runs. Uses rclpy's default context.

    Args:
        image_topic, depth_topic: of the camera, as the parameters of these names.

    Raises:
        ExaoneError: a node cannot be made.
    """
    from exaone_ros.nodes.action_head import ActionHeadNode
    from exaone_ros.nodes.companion import Companion
    from exaone_ros.nodes.perception import Perception
    from exaone_ros.nodes.simulator import Simulator

    camera = f"image_topic:={image_topic}"
    wanted: list[tuple[Callable[[], Any], str, Sequence[str]]] = [
        (lambda: Perception(lambda _settings: NoEngine()), NAMESPACE, (camera,)),
        (Companion, NAMESPACE, (camera, f"depth_topic:={depth_topic}", "track:=true")),
        (ActionHeadNode, NAMESPACE, ()),
        (Simulator, "/", ("publish_clock:=true",)),
    ]
    return [_graph_of(make, namespace, parameters) for make, namespace, parameters in wanted]


def _graph_of(make: Callable[[], Any], namespace: str, parameters: Sequence[str]) -> NodeGraph:
    arguments = ["--ros-args", "--log-level", "error", "-r", f"__ns:={namespace}"]
    for parameter in parameters:
        arguments += ["-p", parameter]
    rclpy.init(args=arguments)
    try:
        node = make()
        try:
            if hasattr(node, "trigger_configure"):
                for step in (node.trigger_configure, node.trigger_activate):
                    step()
                    if node.failure:
                        raise ExaoneError(f"{node.get_name()} cannot be made for its graph: {node.failure}")
            elif hasattr(node, "open_all"):
                node.open_all()
            return graph_of(node)
        finally:
            node.end()
            node.destroy_node()
    finally:
        rclpy.try_shutdown()


def graph_of(node: Node) -> NodeGraph:
    """What a node of this process has opened."""
    name, namespace = node.get_name(), node.get_namespace()
    publishes = dict(node.get_publisher_names_and_types_by_node(name, namespace))
    subscribes = dict(node.get_subscriber_names_and_types_by_node(name, namespace))
    serves = dict(node.get_service_names_and_types_by_node(name, namespace))
    calls = dict(node.get_client_names_and_types_by_node(name, namespace))
    return NodeGraph(
        name,
        namespace,
        publishes=_plain(publishes),
        subscribes=_plain(subscribes),
        serves=_plain(serves),
        calls=_plain(calls),
        executes=_plain(dict(get_action_server_names_and_types_by_node(node, name, namespace))),
        sends=_plain(dict(get_action_client_names_and_types_by_node(node, name, namespace))),
    )


def _plain(names: dict[str, list[str]]) -> dict[str, str]:
    """One type for each name; the topics and services that make up an action are left out."""
    return {name: types[0] for name, types in sorted(names.items()) if "/_action/" not in name}


def run(arguments: Sequence[str] | None = None) -> int:
    """Print the policy, the page or the bare graphs; or write the pages to where they lie in a checkout."""
    parser = argparse.ArgumentParser(prog="python -m exaone_ros.nodes.graph")
    parser.add_argument("what", choices=("policy", "page", "json", "write"))
    parser.add_argument("--image-topic", default="image_raw", help="of your camera, for a policy of your own")
    parser.add_argument("--depth-topic", default="depth", help="of your camera")
    options = parser.parse_args(arguments)
    logging.disable(logging.WARNING)
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "OFF"  # nodes of the same names may run on this machine
    found = graphs(options.image_topic, options.depth_topic)
    if options.what == "policy":
        sys.stdout.write(policy_xml(found))
    elif options.what == "page":
        sys.stdout.write(interfaces_page(found, MEANINGS))
    elif options.what == "json":
        sys.stdout.write(json.dumps([asdict(node) for node in found], indent=1) + "\n")
    else:
        root = Path(__file__).resolve().parents[2]
        texts = {
            POLICY: policy_xml(found),
            PAGE: interfaces_page(found, MEANINGS),
            MESSAGES: messages_page(root / "exaone_interfaces"),
        }
        for file, text in texts.items():
            if not (root / file).parent.is_dir():
                raise ExaoneError(f"'{root}' is no checkout: there is no folder {(root / file).parent}")
            (root / file).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(run())
