"""Ground truth from Gazebo under the names of the MuJoCo simulator.

Gazebo's bounding-box camera knows numbers only. Listens to ``ground_truth/boxes`` (vision_msgs/Detection2DArray as
ros_gz_bridge makes it of the sensor's boxes: class_id is the label's number) and publishes ``ground_truth/detections``
with ``red cube``, ``person``, ``obstacle`` for it, in the camera's optical frame. One thread, the executor's.
"""

from __future__ import annotations

from typing import NoReturn

from rclpy.node import Node
from vision_msgs.msg import Detection2DArray

from exaone_ros.ros import qos
from exaone_ros.ros.simulation import named_ground_truth
from exaone_ros.ros.spin import run_node


class GazeboTruth(Node):
    """Relays boxes; what has an unknown number is left out and said once per number."""

    def __init__(self) -> None:
        super().__init__("gazebo_truth")
        self._told: set[str] = set()
        self._detections = self.create_publisher(Detection2DArray, "ground_truth/detections", qos.answers())
        self.create_subscription(Detection2DArray, "ground_truth/boxes", self._relay, qos.answers())

    def begin(self) -> None:
        """Nothing to start."""

    def end(self) -> None:
        """Nothing to stop."""

    def _relay(self, message: Detection2DArray) -> None:
        named, unknown = named_ground_truth(message)
        for number in sorted(set(unknown) - self._told):
            self._told.add(number)
            self.get_logger().warning(
                f"a box has the label {number!r}, which is none of ours (1 to 34): the world has a model with a "
                "label of its own; such boxes are left out"
            )
        self._detections.publish(named)


def main() -> NoReturn:
    """Entry point ``gazebo_truth``."""
    run_node(GazeboTruth)


if __name__ == "__main__":
    main()
