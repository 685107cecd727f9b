"""What /diagnostics says of a perception node: one status of the node, of each camera and of the engine, each second.

Published by a thread of its own in wall time: a paused simulation, a model that takes minutes to load or a stuck
executor are just what diagnostics are for.

Keys of the cameras' meters, and so of their statuses: `frames.*` (received, fresh, answered, not_due),
`dropped.<reason>`, `bad.<reason>`, `clock.restarts`, `age.{arrival,start,answer}_s`. Of the node's meter:
`task.<name>`, `failed.<name>`, `stage.<stage>_s`, `engine.*` (done, failed, restarted).
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node

from exaone_ros.ros import qos
from exaone_ros.ros.health import Health
from exaone_ros.ros.meter import Reading

PERIOD_S = 1.0
TICK_S = 0.25


@dataclass(frozen=True)
class CameraReport:
    """How one camera is doing.

    Attributes:
        name: empty for the only camera of a node that names none.
        topic: of its images, with the namespace.
        health: its state.
        reading: its meter.
        publishers: of images on the topic, as far as they are known.
    """

    name: str
    topic: str
    health: Health
    reading: Reading
    publishers: int = 0


@dataclass(frozen=True)
class NodeReport:
    """How a perception node is doing.

    Attributes:
        name: fully qualified.
        hardware: which model runs where.
        health: of the node as a whole.
        engine: of the engine.
        reading: the node's meter.
        cameras: empty while the node is not active.
        asks: questions that are being answered.
        engine_restarts: since the node was configured.
        kept_bytes: memory of prompt heads and encoded pictures that are kept for later questions.
    """

    name: str
    hardware: str
    health: Health
    engine: Health
    reading: Reading
    cameras: tuple[CameraReport, ...] = ()
    asks: int = 0
    engine_restarts: int = 0
    kept_bytes: int = 0


def statuses(report: NodeReport) -> list[DiagnosticStatus]:
    """The statuses of one node."""
    reading = report.reading
    node = {"state": report.health.state.value, "reason": report.health.reason, "asks": str(report.asks)}
    node |= {n: f"{reading.rates_hz[n]:.2f} Hz" for n in _names(reading.totals, "task.")}
    node |= _totals(reading, "failed.")
    engine = {**_percentiles(reading, "stage."), **_totals(reading, "engine.")}
    engine["engine.restarts"] = str(report.engine_restarts)
    engine["kept_mb"] = f"{report.kept_bytes / 1e6:.1f}"
    decode_s = reading.sums.get("stage.decode_s", 0.0)
    if decode_s > 0:
        engine["tokens_per_s"] = f"{reading.sums.get('work.tokens', 0.0) / decode_s:.0f}"
    if (drafted := reading.sums.get("work.drafted", 0.0)) > 0:
        engine["drafts_accepted"] = f"{reading.sums.get('work.drafts_accepted', 0.0) / drafted:.0%} of {drafted:.0f}"
    made = [_status(report, "node", report.health, node)]
    for camera in report.cameras:
        part = f"camera {camera.name}" if camera.name else "camera"
        made.append(_status(report, part, camera.health, _camera_values(camera)))
    if not report.cameras:
        made.append(_status(report, "camera", report.health, {}))
    return [*made, _status(report, "engine", report.engine, engine)]


def _camera_values(camera: CameraReport) -> dict[str, str]:
    reading = camera.reading
    return {
        "topic": camera.topic,
        "publishers": str(camera.publishers),
        "camera_state": camera.health.state.value,
        "rate": f"{reading.rates_hz.get('frames.received', 0.0):.2f} Hz",
        "answered_rate": f"{reading.rates_hz.get('frames.answered', 0.0):.2f} Hz",
        **_totals(reading, "frames."),
        **_totals(reading, "dropped."),
        **_totals(reading, "bad."),
        **_totals(reading, "clock."),
        **_totals(reading, "qos."),
        **_percentiles(reading, "age."),
    }


def _status(report: NodeReport, part: str, health: Health, values: Mapping[str, str]) -> DiagnosticStatus:
    return DiagnosticStatus(
        level=bytes([health.state.level]),
        name=f"{report.name}: {part}",
        message=f"{health.state.value}: {health.reason}",
        hardware_id=report.hardware,
        values=[KeyValue(key=key, value=value) for key, value in values.items()],
    )


def _names(mapping: Mapping[str, Any], prefix: str) -> list[str]:
    return sorted(name for name in mapping if name.startswith(prefix))


def _totals(reading: Reading, prefix: str) -> dict[str, str]:
    return {name: str(reading.totals[name]) for name in _names(reading.totals, prefix)}


def _percentiles(reading: Reading, prefix: str) -> dict[str, str]:
    out = {}
    for name in _names(reading.samples, prefix):
        both = reading.samples[name]
        out[f"{name.removesuffix('_s')}.p50"] = f"{both.p50 * 1e3:.2f} ms"
        out[f"{name.removesuffix('_s')}.p95"] = f"{both.p95 * 1e3:.2f} ms"
    return out


class DiagnosticsThread:
    """Publishes statuses once a second until it is stopped.

    Args:
        node: whose publisher and clock are used.
        collect: called in this thread for the statuses of the moment.
        tick: called in this thread each `TICK_S`.
    """

    def __init__(
        self,
        node: Node,
        collect: Callable[[], list[DiagnosticStatus]],
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        self._node, self._collect, self._tick = node, collect, tick
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", qos.diagnostics())
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="diagnostics", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; the node may be destroyed after that."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        told = False
        due_s = time.monotonic() + PERIOD_S
        while not self._stopping.wait(TICK_S):
            try:
                self._tick()
                if time.monotonic() < due_s:
                    continue
                due_s = max(due_s + PERIOD_S, time.monotonic())
                message = DiagnosticArray(status=self._collect())
                message.header.stamp = self._node.get_clock().now().to_msg()
                self._publisher.publish(message)
            except Exception:  # diagnostics go on; what is wrong with them is said once
                if not told:
                    self._node.get_logger().error(f"diagnostics failed:\n{traceback.format_exc()}")
                told = True
