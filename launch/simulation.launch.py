"""Start the MuJoCo simulator: camera, joints, ground truth; and /tf of the robot.

ros2 launch exaone_ros simulation.launch.py world:=tabletop

Arguments, nodes and parameters stand in exaone_ros/ros/bringup.py; `--show-args` lists the arguments.
"""

from exaone_ros.ros.bringup import PLANS
from exaone_ros.ros.launching import launch_description


def generate_launch_description():
    """Called by `ros2 launch`."""
    return launch_description(PLANS["simulation"])
