"""Several synthetic cameras and a stopwatch: publishes images on topics of their own, notes how answers come back.

For benchmarks. Prints one JSON line when its time is over.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from numpy.typing import NDArray
from rclpy.node import Node
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from exaone_interfaces.msg import ObjectCounts
from exaone_ros.pipes import ends_with_its_reader
from exaone_ros.ros import qos
from exaone_ros.ros.image import rgb_to_image
from exaone_ros.ros.listen import spinning
from exaone_ros.ros.messages import time_to_ns


class CamerasProbe(Node):
    """Publishes frames of each camera at a rate, and notes the answers to them.

    Args:
        frames: uint8 RGB [N, H, W, 3].
        cameras: their names; one empty name for a camera without a name.
        rate_hz: of each camera.
    """

    def __init__(self, frames: NDArray[np.uint8], cameras: list[str], rate_hz: float) -> None:
        super().__init__("exaone_cameras_probe")
        self.heard = {camera: threading.Event() for camera in cameras}
        self.samples: dict[str, list[tuple[float, float, float]]] = {camera: [] for camera in cameras}
        """Of each answer, in seconds: age when published, age when received, engine time."""
        self.sent = dict.fromkeys(cameras, 0)
        self._messages = [rgb_to_image(frame, Header(frame_id="probe_optical_frame")) for frame in frames]
        for number, camera in enumerate(cameras):
            prefix = f"{camera}/" if camera else ""
            publisher = self.create_publisher(Image, f"/probe/{prefix}image_raw", qos.published_image())
            self.create_subscription(ObjectCounts, f"/exaone/{prefix}counts", partial(self._on_counts, camera), 10)
            self.create_timer(1.0 / rate_hz, partial(self._on_timer, camera, publisher, number))

    def _on_timer(self, camera: str, publisher: Any, offset: int) -> None:
        if publisher.get_subscription_count() == 0:
            return
        message = self._messages[(self.sent[camera] + offset) % len(self._messages)]
        message.header.stamp = self.get_clock().now().to_msg()
        publisher.publish(message)
        self.sent[camera] += 1

    def _on_counts(self, camera: str, message: ObjectCounts) -> None:
        received_s = (time.time_ns() - time_to_ns(message.header.stamp)) * 1e-9
        age_s, latency_s = (d.sec + d.nanosec * 1e-9 for d in (message.age, message.latency))
        self.samples[camera].append((age_s, received_s, latency_s))
        self.heard[camera].set()


@ends_with_its_reader
def main() -> int:
    """Wait for the first answer of each camera, then measure for `--seconds`; returns 1 where one never answers."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--frames", type=Path, required=True, help=".npy, uint8 [N, H, W, 3]")
    parser.add_argument("--cameras", default="", help="names, separated by commas; empty = one without a name")
    parser.add_argument("--rate", type=float, default=15.0, help="Hz of each camera")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--pid", type=int, required=True, help="of the process whose CPU time is taken")
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds for the first answers")
    arguments = parser.parse_args()
    rclpy.init(args=[])
    try:
        node = CamerasProbe(np.load(arguments.frames), arguments.cameras.split(","), arguments.rate)
        with spinning(node):
            until_s = time.monotonic() + arguments.timeout
            if not all(heard.wait(max(0.0, until_s - time.monotonic())) for heard in node.heard.values()):
                return 1
            before = {camera: (len(node.samples[camera]), node.sent[camera]) for camera in node.heard}
            began_s, cpu_s = time.monotonic(), cpu_seconds(arguments.pid)
            threading.Event().wait(arguments.seconds)
            took_s, spent_s = time.monotonic() - began_s, cpu_seconds(arguments.pid) - cpu_s
            samples = {camera: node.samples[camera][first:] for camera, (first, _) in before.items()}
            sent = {camera: node.sent[camera] - first for camera, (_, first) in before.items()}
    finally:
        rclpy.try_shutdown()
    result = {"seconds": took_s, "cpu_s": spent_s, "sent": sent, "samples_s": samples}
    sys.stdout.write(json.dumps(result) + "\n")
    return 0


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far, all its threads, user and system (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    sys.exit(main())
