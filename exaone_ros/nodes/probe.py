"""A camera stand-in that also listens: publishes images at a rate and times when the counts about them come back.

For benchmarks. Prints one JSON line when it has collected what was asked for.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import threading
import time
from pathlib import Path

import numpy as np
import rclpy
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from exaone_interfaces.msg import ObjectCounts
from exaone_ros.pipes import ends_with_its_reader
from exaone_ros.ros.image import rgb_to_image
from exaone_ros.ros.listen import spinning

WARM_UP = 20
"""Answers that are not counted: the first ones allocate."""


class Probe(Node):
    """Publishes frames in turn and notes, for each answer, how its time went."""

    def __init__(self, frames: NDArray[np.uint8], rate_hz: float, answers: int, pid: int) -> None:
        super().__init__("exaone_probe")
        self.done = threading.Event()
        self.samples: list[tuple[float, float, float]] = []
        self.memory_mb: list[float] = []
        self.sent = 0
        self._answers = answers
        self._watched = pid
        self._messages = [rgb_to_image(frame, Header(frame_id="probe_optical_frame")) for frame in frames]
        qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
        self._images = self.create_publisher(Image, "/probe/image_raw", qos)
        self.create_subscription(ObjectCounts, "/exaone/counts", self._on_counts, 10)
        self.create_timer(1.0 / rate_hz, self._on_timer)

    def _on_timer(self) -> None:
        if self._images.get_subscription_count() == 0:
            return
        message = self._messages[self.sent % len(self._messages)]
        message.header.stamp = self.get_clock().now().to_msg()
        self._images.publish(message)
        self.sent += 1

    def _on_counts(self, message: ObjectCounts) -> None:
        now_ns = time.time_ns()
        stamp_ns, age_ns, latency_ns = (
            t.sec * 1_000_000_000 + t.nanosec for t in (message.header.stamp, message.age, message.latency)
        )
        self.samples.append(((age_ns - latency_ns) * 1e-6, (now_ns - stamp_ns - age_ns) * 1e-6, latency_ns * 1e-6))
        if self._watched and (len(self.samples) % 100 == 0):
            self.memory_mb.append(resident_mb(self._watched))
        if len(self.samples) >= self._answers + WARM_UP:
            self.done.set()


def resident_mb(pid: int) -> float:
    """Resident memory of a process in MB (Linux)."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


@ends_with_its_reader
def main() -> int:
    """Run until enough answers came; returns 1 when they do not come."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--frames", type=Path, required=True, help=".npy, uint8 [N, H, W, 3]")
    parser.add_argument("--rate", type=float, default=30.0)
    parser.add_argument("--answers", type=int, default=600)
    parser.add_argument("--pid", type=int, default=0, help="of the process whose memory is watched")
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds")
    arguments = parser.parse_args()
    rclpy.init(args=[])
    try:
        node = Probe(np.load(arguments.frames), arguments.rate, arguments.answers, arguments.pid)
        with spinning(node):
            complete = node.done.wait(arguments.timeout)
    finally:
        rclpy.try_shutdown()
    samples = node.samples[WARM_UP:]
    sys.stdout.write(json.dumps({"sent": node.sent, "samples_ms": samples, "memory_mb": node.memory_mb}) + "\n")
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
