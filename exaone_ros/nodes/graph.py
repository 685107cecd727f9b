"""What the nodes talk to, found by making them: `python -m exaone_ros.nodes.graph policy|page|json|write`.

Each node is made in this process with its optional parts on and an engine that loads nothing, and is asked which
topics, services and actions it has opened. So the SROS 2 policy and the page of interfaces cannot lag behind the code.
`--launch` does the same with the very nodes, parameters and names of a launch file.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import rclpy
from rclpy.action import get_action_client_names_and_types_by_node, get_action_server_names_and_types_by_node
from rclpy.node import Node

from exaone_ros.errors import ExaoneError
from exaone_ros.pipes import ends_with_its_reader
from exaone_ros.ros.bringup import PLANS
from exaone_ros.ros.launch_plan import NodePlan, Value
from exaone_ros.ros.messages_page import messages_page
from exaone_ros.ros.policy import NodeGraph, interfaces_page, policy_xml
from exaone_ros.ros.spin import reason_of_rcl
from exaone_ros.share import PACKAGE

NAMESPACE = "/exaone"
POLICY, DEMO_POLICY = "config/sros2_policy.xml", "config/sros2_demo_policy.xml"
PAGE, MESSAGES = "docs/interfaces.md", "docs/messages.md"
SERVICES_OF_RCLCPP = {
    "describe_parameters": "rcl_interfaces/srv/DescribeParameters",
    "get_parameter_types": "rcl_interfaces/srv/GetParameterTypes",
    "get_parameters": "rcl_interfaces/srv/GetParameters",
    "get_type_description": "type_description_interfaces/srv/GetTypeDescription",
    "list_parameters": "rcl_interfaces/srv/ListParameters",
    "set_parameters": "rcl_interfaces/srv/SetParameters",
    "set_parameters_atomically": "rcl_interfaces/srv/SetParametersAtomically",
}
"""Below the name of every node in C++; that of types from Iron on, and a node that may not serve it does not start."""
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
    "tf": "with `target_frame`, by tf2",
    "tf_static": "with `target_frame`, by tf2",
}


class NoEngine:
    """Stands in for the engine: nothing is asked of it here."""

    refusal = ""

    def __getattr__(self, name: str) -> Any:
        return lambda *_arguments, **_named: True


TF = {"/tf": "tf2_msgs/msg/TFMessage", "/tf_static": "tf2_msgs/msg/TFMessage"}
"""What the companion listens to where it has a `target_frame`; by tf2, which only an apt ROS has."""


def graphs(
    image_topic: str = "", depth_topic: str = "", cameras: Sequence[str] = (), params_file: str = ""
) -> list[NodeGraph]:
    """All nodes that a robot runs. Uses rclpy's default context.

    Args:
        image_topic, depth_topic: of the camera, as the parameters of these names; empty = as by default or by file.
        cameras: names of the perception node's cameras; then there is a companion for each, in its namespace.
        params_file: YAML file of parameters that all of the nodes get; it says which optional parts are on. Without
            one all of them are.

    Raises:
        ExaoneError: a node cannot be made, or one topic is given for several cameras.
    """
    if cameras and image_topic:
        raise ExaoneError(
            f"--image-topic is '{image_topic}', but the cameras have names ({', '.join(cameras)}); expected their "
            f"topics in the file of --params-file, as '{cameras[0]}.image_topic' of the perception node"
        )
    if len(cameras) > 1 and depth_topic.startswith("/"):
        raise ExaoneError(
            f"--depth-topic is '{depth_topic}', but there are {len(cameras)} cameras; expected a relative name, which "
            f"each has in its namespace ({NAMESPACE}/{cameras[0]}), or 'depth_topic' of each companion in the file of "
            "--params-file"
        )
    files = (params_file,) if params_file else ()
    everything: dict[str, Value] = {"depth_topic": "depth", "track": True, "target_frame": "map"}
    seeing = {} if params_file else everything
    if depth_topic:
        seeing["depth_topic"] = depth_topic
    camera: dict[str, Value] = {"image_topic": image_topic} if image_topic else {}
    names: dict[str, Value] = {"cameras": f"[{', '.join(cameras)}]"} if cameras else {}
    clock: dict[str, Value] = {} if params_file else {"publish_clock": True}
    wanted: list[tuple[str, str, dict[str, Value]]] = [("perception", NAMESPACE, names or camera)]
    wanted += [("companion", f"{NAMESPACE}/{name}", seeing) for name in cameras]
    wanted += [] if cameras else [("companion", NAMESPACE, camera | seeing)]
    wanted += [("action_head", NAMESPACE, {}), ("simulator", "", clock)]
    return [
        graph_of_plan(NodePlan(name, name, namespace, files, parameters, log_level="error"))
        for name, namespace, parameters in wanted
    ]


def graphs_of_launch(name: str, given: Mapping[str, str]) -> list[NodeGraph]:
    """The nodes that a launch file starts with these arguments, and what each of them opens.

    Args:
        name: of the launch file, e.g. ``demo``.
        given: its arguments.

    Raises:
        ExaoneError: there is no such launch file, it takes no such argument, or it starts what is not known here.
    """
    if name not in PLANS:
        raise ExaoneError(f"there is no launch file '{name}'; expected one of {', '.join(PLANS)}")
    found = []
    for step in PLANS[name].resolve(given):
        if isinstance(step, NodePlan) and step.executable == "robot_state_publisher":
            found.append(_robot_state_publisher(step))
        elif isinstance(step, NodePlan) and step.package == PACKAGE:
            found.append(graph_of_plan(replace(step, log_level="error")))
        else:
            other = f"{step.package}'s {step.executable if isinstance(step, NodePlan) else step.file}"
            raise ExaoneError(f"{name}.launch.py starts {other}, and what that opens is not known here")
    return found


def graph_of_plan(plan: NodePlan) -> NodeGraph:
    """Make one node of ours as a launch file would, and see what it opens.

    Raises:
        ExaoneError: it cannot be made.
    """
    parameters = dict(plan.parameters)
    tf = TF if parameters.pop("target_frame", "") else {}  # tf2 need not be here to say what it listens to
    graph = _graph_of(_maker(plan.executable), replace(plan, parameters=parameters).ros_arguments())
    return replace(graph, subscribes={**graph.subscribes, **tf})


def _maker(executable: str) -> Callable[[], Any]:
    if executable == "perception":
        from exaone_ros.nodes.perception import Perception

        return lambda: Perception(lambda _settings: NoEngine())
    if executable == "companion":
        from exaone_ros.nodes.companion import Companion

        return Companion
    if executable == "action_head":
        from exaone_ros.nodes.action_head import ActionHeadNode

        return ActionHeadNode
    if executable == "simulator":
        from exaone_ros.nodes.simulator import Simulator

        return Simulator
    if executable == "rerun_view":
        from exaone_ros.nodes.rerun_view import RerunView

        return RerunView
    raise ExaoneError(f"the graph of '{executable}' is not known here")


def _robot_state_publisher(plan: NodePlan) -> NodeGraph:
    """What robot_state_publisher of an apt ROS opens, by its documentation."""
    prefix = f"/{plan.namespace.strip('/')}".rstrip("/")
    return NodeGraph(
        plan.name,
        prefix or "/",
        publishes={
            **TF,
            f"{prefix}/robot_description": "std_msgs/msg/String",
            "/parameter_events": "rcl_interfaces/msg/ParameterEvent",
            "/rosout": "rcl_interfaces/msg/Log",
        },
        subscribes={f"{prefix}/joint_states": "sensor_msgs/msg/JointState"},
        serves={f"{prefix}/{plan.name}/{service}": kind for service, kind in SERVICES_OF_RCLCPP.items()},
    )


def _graph_of(make: Callable[[], Any], arguments: Sequence[str]) -> NodeGraph:
    try:
        rclpy.init(args=list(arguments))
    except RuntimeError as error:
        raise ExaoneError(reason_of_rcl(error)) from error
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
    parser.add_argument("--image-topic", default="", help="of your camera, for a policy of your own; without --cameras")
    parser.add_argument("--depth-topic", default="", help="of your camera")
    parser.add_argument("--cameras", nargs="+", default=(), help="names of several cameras, as the parameter")
    parser.add_argument("--params-file", default="", help="YAML file of your nodes' parameters")
    parser.add_argument(
        "--launch", nargs="+", metavar=("NAME", "ARGUMENT:=VALUE"), help="what a launch file starts, and nothing else"
    )
    options = parser.parse_args(arguments)
    try:
        return _run(options)
    except ExaoneError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _run(options: argparse.Namespace) -> int:
    own = options.image_topic or options.depth_topic or options.cameras or options.params_file
    if options.launch and own:
        raise ExaoneError("--launch takes names and parameters from the launch file; give them as ARGUMENT:=VALUE")
    if options.what == "write" and (options.launch or own):
        raise ExaoneError(
            "'write' writes the package's own files, of the default names; print what you want of yours into a "
            "file: python -m exaone_ros.nodes.graph policy ... > policy.xml"
        )
    if options.launch:
        name, *words = options.launch
        wrong = [word for word in words if ":=" not in word]
        if wrong:
            raise ExaoneError(f"launch argument '{wrong[0]}': expected NAME:=VALUE")
        found = graphs_of_launch(name.removesuffix(".launch.py"), dict(word.split(":=", 1) for word in words))
    else:
        if options.params_file and not Path(options.params_file).is_file():
            raise ExaoneError(f"--params-file is '{options.params_file}'; expected the path of a file")
        found = graphs(options.image_topic, options.depth_topic, options.cameras, options.params_file)
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
            DEMO_POLICY: policy_xml(graphs_of_launch("demo", {"depth": "true"})),
            PAGE: interfaces_page(found, MEANINGS),
            MESSAGES: messages_page(root / "exaone_interfaces"),
        }
        for file, text in texts.items():
            if not (root / file).parent.is_dir():
                raise ExaoneError(f"'{root}' is no checkout: there is no folder {(root / file).parent}")
            (root / file).write_text(text, encoding="utf-8")
    return 0


@ends_with_its_reader
def run_alone() -> int:
    """The same in a process of its own: quiet, and unseen by nodes of the same names on this machine."""
    logging.disable(logging.WARNING)
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "OFF"
    return run()


if __name__ == "__main__":
    sys.exit(run_alone())
