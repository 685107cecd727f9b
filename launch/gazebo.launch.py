"""Start Gazebo (Harmonic, Ionic or Jetty) with our world and robot, on the topics of the MuJoCo simulator.

ros2 launch exaone_ros gazebo.launch.py world:=tabletop headless:=false

Arguments, nodes and parameters stand in exaone_ros/ros/bringup.py; `--show-args` lists the arguments.
"""

from exaone_ros.ros.bringup import PLANS
from exaone_ros.ros.launching import launch_description


def generate_launch_description():
    """Called by `ros2 launch`."""
    return launch_description(PLANS["gazebo"])
