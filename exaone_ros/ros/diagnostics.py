"""What /diagnostics says of a perception node: three statuses (node, camera, engine), once a second.

Published by a thread of its own in wall time: a paused simulation, a model that takes minutes to load or a stuck
executor are just what diagnostics are for.

Keys of the meter, and so of the statuses: `frames.*` (received, fresh, answered, not_due), `dropped.<reason>`,
`bad.<reason>`, `task.<name>`, `failed.<name>`, `stage.<stage>_s`, `age.{arrival,start,answer}_s`.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node

from exaone_ros.ros import qos
from exaone_ros.ros.health import Health
from exaone_ros.ros.meter import Reading

PERIOD_S = 1.0


def statuses(name: str, hardware: str, health: Health, reading: Reading) -> list[DiagnosticStatus]:
    """The statuses of one node.

    Args:
        name: fully qualified name of the node.
        hardware: what `hardware_id` says: which model runs where.
        health: its state.
        reading: its meter.
    """
    node = {"state": health.state.value, "reason": health.reason}
    node |= {n: f"{reading.rates_hz[n]:.2f} Hz" for n in _names(reading.totals, "task.")}
    node |= _totals(reading, "failed.")
    camera = {
        "rate": f"{reading.rates_hz.get('frames.received', 0.0):.2f} Hz",
        "answered_rate": f"{reading.rates_hz.get('frames.answered', 0.0):.2f} Hz",
        **_totals(reading, "frames."),
        **_totals(reading, "dropped."),
        **_totals(reading, "bad."),
        **_totals(reading, "clock."),
        **_percentiles(reading, "age."),
    }
    engine = {**_percentiles(reading, "stage."), **_totals(reading, "engine.")}
    decode_s = reading.sums.get("stage.decode_s", 0.0)
    if decode_s > 0:
        engine["tokens_per_s"] = f"{reading.sums.get('work.tokens', 0.0) / decode_s:.0f}"
    return [
        DiagnosticStatus(
            level=bytes([health.state.level]),
            name=f"{name}: {part}",
            message=f"{health.state.value}: {health.reason}",
            hardware_id=hardware,
            values=[KeyValue(key=key, value=value) for key, value in values.items()],
        )
        for part, values in (("node", node), ("camera", camera), ("engine", engine))
    ]


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
    """

    def __init__(self, node: Node, collect: Callable[[], list[DiagnosticStatus]]) -> None:
        self._node, self._collect = node, collect
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
        while not self._stopping.wait(PERIOD_S):
            try:
                message = DiagnosticArray(status=self._collect())
                message.header.stamp = self._node.get_clock().now().to_msg()
                self._publisher.publish(message)
            except Exception:  # diagnostics go on; what is wrong with them is said once
                if not told:
                    self._node.get_logger().error(f"diagnostics failed:\n{traceback.format_exc()}")
                told = True
