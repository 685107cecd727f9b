"""Stands in for the `ros2` command, which the wheels lack: the verbs that the documentation uses, through rclpy.

Each verb does what the real one does with the same words, as far as a test can see it: names, types, YAML and answers.
"""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import yaml
from action_msgs.msg import GoalStatus
from rcl_interfaces.srv import DescribeParameters, SetParameters
from rclpy.action import ActionClient
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy

from exaone_ros.ros.bag import BagRecorder

PATIENCE_S = 120.0
RELIABLE = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
T = TypeVar("T")


def await_that(find: Callable[[], T | None], what: str) -> T:
    """What `find` finds; it is asked again and again."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not (found := find()):
        assert time.monotonic() < deadline_s, f"waited in vain for {what}"
        time.sleep(0.05)
    return found


def class_of(name: str) -> Any:
    """``exaone_interfaces/action/Ask`` as a class."""
    package, kind, message = name.split("/")
    return getattr(importlib.import_module(f"{package}.{kind}"), message)


def fill(message: Any, values: Mapping[str, Any]) -> Any:
    """Set the fields of a message as `ros2` does with YAML; a name that is none raises."""
    for name, value in values.items():
        held = getattr(message, name)
        setattr(message, name, fill(held, value) if isinstance(value, Mapping) else type(held)(value))
    return message


class Ros2:
    """The verbs. `node` is spun by somebody else; methods return when the command has done what it is for."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def topic_echo(self, topic: str) -> Any:
        """The first message that comes."""
        found = await_that(lambda: dict(self._node.get_topic_names_and_types()).get(topic), f"topic {topic}")
        heard: list[Any] = []
        subscription = self._node.create_subscription(class_of(found[0]), topic, heard.append, RELIABLE)
        try:
            return await_that(lambda: heard[:1], f"a message on {topic}")[0]
        finally:
            self._in_executor(lambda: self._node.destroy_subscription(subscription))

    def topic_pub(self, topic: str, kind: str, rate_hz: float) -> None:
        """Publish an empty message again and again, as long as the node lives; returns when somebody listens."""
        message = class_of(kind)()
        publisher = self._node.create_publisher(type(message), topic, RELIABLE)
        self._node.create_timer(1 / rate_hz, lambda: publisher.publish(message))
        await_that(publisher.get_subscription_count, f"a subscriber of {topic}")

    def service_call(self, service: str, kind: str, values: str) -> Any:
        """The response."""
        service_type = class_of(kind)
        return self._call(service, service_type, fill(service_type.Request(), yaml.safe_load(values)))

    def param_describe(self, node: str, name: str) -> Any:
        """The descriptor."""
        request = DescribeParameters.Request(names=[name])
        return self._call(f"{node}/describe_parameters", DescribeParameters, request).descriptors[0]

    def param_set(self, node: str, name: str, value: str) -> Any:
        """Whether it was taken, and why not."""
        parameter = Parameter(name, value=yaml.safe_load(value)).to_parameter_msg()
        request = SetParameters.Request(parameters=[parameter])
        return self._call(f"{node}/set_parameters", SetParameters, request).results[0]

    def action_send_goal(self, action: str, kind: str, values: str) -> tuple[int, Any, list[Any]]:
        """Status, result and feedback of a goal; one that goes on after its first feedback is cancelled."""
        action_type = class_of(kind)
        client, feedback = ActionClient(self._node, action_type, action), []
        try:
            assert client.wait_for_server(PATIENCE_S), f"there is no action {action}"
            goal = fill(action_type.Goal(), yaml.safe_load(values))
            handle = self._done(client.send_goal_async(goal, lambda message: feedback.append(message.feedback)))
            assert handle.accepted, f"{action} refused the goal"
            result = handle.get_result_async()
            await_that(lambda: feedback or result.done(), "feedback or a result")
            if not result.done() and "run_policy" in action:
                self._done(handle.cancel_goal_async())
            ended = self._done(result)
            assert ended.status != GoalStatus.STATUS_UNKNOWN
            return ended.status, ended.result, feedback
        finally:
            self._in_executor(client.destroy)

    def bag_record(self, folder: Path, topics: tuple[str, ...], until: str) -> dict[str, int]:
        """Record into an MCAP bag until there is a message of the topic `until`; the number of messages of each topic.

        As with the real one, topics that nobody publishes are left out.
        """
        await_that(lambda: until in dict(self._node.get_topic_names_and_types()), f"topic {until}")
        known = dict(self._node.get_topic_names_and_types())
        kinds = {topic: known[topic][0] for topic in topics if topic in known}
        lock = threading.Lock()
        with BagRecorder(folder, kinds) as recorder:
            open_now = True

            def write(topic: str, data: bytes) -> None:
                with lock:
                    if open_now:
                        recorder.write(topic, data, time.time_ns())

            subscriptions = [
                self._node.create_subscription(class_of(kind), topic, partial(write, topic), RELIABLE, raw=True)
                for topic, kind in kinds.items()
            ]
            try:
                await_that(lambda: recorder.counts[until], f"a message of {until}")
            finally:
                with lock:  # a callback that is under way ends first
                    open_now = False
                self._in_executor(lambda: [self._node.destroy_subscription(s) for s in subscriptions])
        return recorder.counts

    def _call(self, service: str, kind: Any, request: Any) -> Any:
        client = self._node.create_client(kind, service)
        try:
            assert client.wait_for_service(PATIENCE_S), f"there is no service {service}"
            return self._done(client.call_async(request))
        finally:
            self._in_executor(lambda: self._node.destroy_client(client))

    def _in_executor(self, work: Callable[[], Any]) -> None:
        """Do it in the thread that spins: what another thread destroys may be what the executor waits on."""
        executor = self._node.executor
        assert executor is not None, "nobody spins the node"
        await_that(executor.create_task(work).done, "the executor")

    def _done(self, future: Any) -> Any:
        await_that(future.done, "an answer")
        return future.result()
