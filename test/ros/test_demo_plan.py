"""The nodes of demo.launch.py, started as `launch` would start them, take their parameters, find each other, and
open nothing that the demo's SROS 2 policy does not allow.

robot_state_publisher is left out: it is no package of ours and comes with an apt ROS only. What the nodes then answer
is the matter of test_demo and test_scenarios.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

import pytest
import rclpy
import yaml
from policy_rules import Rule, is_by_rclpy, rules_of
from rclpy.action import get_action_client_names_and_types_by_node, get_action_server_names_and_types_by_node
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from exaone_ros.ros.bringup import DEMO
from exaone_ros.ros.children import Child
from exaone_ros.ros.launch_plan import NodePlan
from exaone_ros.share import share_path

pytest.importorskip("mujoco")
pytest.importorskip("onnxruntime")

PATIENCE_S = 300.0
FEW = 5
"""Each node opens more than so many topics and services of its own and of ROS."""
WIRING = {
    ("/simulator", "/head_camera/image_raw", "/exaone/perception"),
    ("/simulator", "/joint_states", "/exaone/action_head"),
    ("/exaone/action_head", "/joint_trajectory", "/simulator"),
    ("/exaone/perception", "/exaone/detections", "/exaone/companion"),
    ("/exaone/perception", "/exaone/decision", "/exaone/companion"),
}
"""(who publishes, on which topic, who listens)."""


def opened(watcher: Node, name: str, namespace: str) -> set[Rule]:
    """What a node of another process has opened as far as it is known here, in the words of a policy."""
    path = f"{namespace.rstrip('/')}/{name}"
    servers = dict(get_action_server_names_and_types_by_node(watcher, name, namespace))
    clients = dict(get_action_client_names_and_types_by_node(watcher, name, namespace))
    found = {
        "publish": watcher.get_publisher_names_and_types_by_node(name, namespace),
        "subscribe": watcher.get_subscriber_names_and_types_by_node(name, namespace),
        "reply": watcher.get_service_names_and_types_by_node(name, namespace),
        "request": watcher.get_client_names_and_types_by_node(name, namespace),
        "execute": servers.items(),
        "call": clients.items(),
    }
    return {
        (path, rule, topic)
        for rule, names in found.items()
        for topic, _types in names
        if "/_action/" not in topic and not is_by_rclpy(path, topic)
    }


def test_everything_comes_up_and_is_connected(tmp_path: Path) -> None:
    small = tmp_path / "simulator.yaml"
    values = {"width": 160, "height": 120, "rate_hz": 0.2, "shadows": False}
    small.write_text(yaml.safe_dump({"/**": {"ros__parameters": values}}), encoding="utf-8")
    steps = DEMO.resolve({"world": "tabletop", "simulator_params_file": str(small)})
    plans = [step for step in steps if isinstance(step, NodePlan) and step.package == "exaone_ros"]
    assert [plan.name for plan in plans] == ["simulator", "perception", "companion", "action_head"]

    allowed = rules_of(share_path("config/sros2_demo_policy.xml").read_text(encoding="utf-8"))
    context = rclpy.Context()
    rclpy.init(context=context)
    watcher = rclpy.create_node("demo_watcher", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(watcher)

    def missing() -> set[tuple[str, str, str]]:
        return {
            (source, topic, listener)
            for source, topic, listener in WIRING
            if source not in {full_name(end) for end in watcher.get_publishers_info_by_topic(topic)}
            or listener not in {full_name(end) for end in watcher.get_subscriptions_info_by_topic(topic)}
        }

    try:
        with ExitStack() as running:
            children = [
                running.enter_context(Child(plan.executable, plan.ros_arguments(), tmp_path / f"{plan.name}.log"))
                for plan in plans
            ]
            deadline_s = time.monotonic() + PATIENCE_S
            while lacking := missing():
                for child in children:
                    assert child.running, f"{child.node} has ended:\n{child.tail()}"
                logs = "\n".join(child.tail(5) for child in children)
                assert time.monotonic() < deadline_s, f"not connected: {sorted(lacking)}\n{logs}"
                executor.spin_once(timeout_sec=0.5)  # the graph changes while this waits
            for plan in plans:
                while len(rules := opened(watcher, plan.name, f"/{plan.namespace}")) <= FEW:
                    assert time.monotonic() < deadline_s, f"{plan.name} has opened {sorted(rules)} only"
                    executor.spin_once(timeout_sec=0.5)
                assert rules <= allowed, f"sros2_demo_policy.xml lacks {sorted(rules - allowed)}"
        assert [child.process.returncode for child in children] == [0, 0, 0, 0]
    finally:
        executor.shutdown()
        watcher.destroy_node()
        rclpy.try_shutdown(context=context)


def full_name(end: object) -> str:
    """Of the node that an end point of a topic belongs to."""
    namespace, name = getattr(end, "node_namespace", ""), getattr(end, "node_name", "")
    return f"{namespace.rstrip('/')}/{name}"
