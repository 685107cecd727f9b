"""Start the companion of a perception node: annotated images, detections in space, tracks; optionally a viewer.

ros2 launch exaone_ros companion.launch.py image_topic:=/camera/image_raw view:=true

Arguments, nodes and parameters stand in exaone_ros/ros/bringup.py; `--show-args` lists the arguments.
"""

from exaone_ros.ros.bringup import PLANS
from exaone_ros.ros.launching import launch_description


def generate_launch_description():
    """Called by `ros2 launch`."""
    return launch_description(PLANS["companion"])
