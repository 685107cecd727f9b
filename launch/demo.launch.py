"""Start everything: a simulator, perception, pictures of its answers, the action head.

ros2 launch exaone_ros demo.launch.py simulator:=gazebo use_sim_time:=true

Arguments, nodes and parameters stand in exaone_ros/ros/bringup.py; `--show-args` lists the arguments.
"""

from exaone_ros.ros.bringup import PLANS
from exaone_ros.ros.launching import launch_description


def generate_launch_description():
    """Called by `ros2 launch`."""
    return launch_description(PLANS["demo"])
