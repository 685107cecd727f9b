"""The heartbeat on the topic `status`: the node's named state, each second and at each change, told once in the log."""

from __future__ import annotations

import time
from collections.abc import Callable

from rclpy.node import Node

from exaone_interfaces.msg import CameraStatus, Status
from exaone_ros.ros import qos
from exaone_ros.ros.diagnostics import NodeReport
from exaone_ros.ros.health import State

PERIOD_S = 1.0


def status_message(report: NodeReport) -> Status:
    """A report as a message, but for its stamp."""
    return Status(
        node=report.name,
        state=report.health.state.value,
        reason=report.health.reason,
        cameras=[
            CameraStatus(
                name=camera.name,
                topic=camera.topic,
                state=camera.health.state.value,
                reason=camera.health.reason,
                rate=camera.reading.rates_hz.get("frames.received", 0.0),
                answered_rate=camera.reading.rates_hz.get("frames.answered", 0.0),
                age=camera.reading.since_s.get("frames.fresh", -1.0),
            )
            for camera in report.cameras
        ],
        asks=report.asks,
        engine_restarts=report.engine_restarts,
    )


class Heartbeat:
    """Publishes the state of a node. `beat` is called by one thread, several times a second.

    Args:
        node: whose publisher, clock and log are used.
        report: how the node is doing.
    """

    def __init__(self, node: Node, report: Callable[[], NodeReport]) -> None:
        self._node, self._report = node, report
        self._publisher = node.create_publisher(Status, "status", qos.diagnostics())
        self._said: tuple[State | None, dict[str, State]] = (None, {})
        self._said_s = 0.0

    def beat(self) -> None:
        """Publish where a second is over or a state has changed; log each change once."""
        report = self._report()
        states = {camera.name: camera.health.state for camera in report.cameras}
        said, said_of_cameras = self._said
        now = (report.health.state, states)
        if now == self._said and time.monotonic() - self._said_s < PERIOD_S:
            return
        if report.health.state is not said:
            self._tell(
                f"{f'{said.value} -> ' if said else ''}{report.health.state.value}: {report.health.reason}",
                report.health.state,
            )
        for camera in report.cameras:
            before = said_of_cameras.get(camera.name)
            if camera.name and before is not None and before is not camera.health.state:
                self._tell(
                    f"camera '{camera.name}': {before.value} -> {camera.health.state.value}: {camera.health.reason}",
                    camera.health.state,
                )
        self._said, self._said_s = now, time.monotonic()
        message = status_message(report)
        message.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(message)

    def _tell(self, change: str, state: State) -> None:
        if state.level > 0:  # two call sites: rclpy's logger allows one severity for each
            self._node.get_logger().warning(f"state {change}")
        else:
            self._node.get_logger().info(f"state {change}")
