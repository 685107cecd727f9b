"""Start the perception node in a namespace.

ros2 launch exaone_ros perception.launch.py image_topic:=/camera/image_raw
"""

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

ARGUMENTS = {
    "namespace": ("exaone", "Namespace of the node and of its relative topics."),
    "use_sim_time": ("false", "Take the time from /clock (true) or from this machine (false)."),
    "params_file": (
        PathJoinSubstitution([FindPackageShare("exaone_ros"), "config", "perception.yaml"]),
        "YAML file of parameters.",
    ),
    "autostart": ("true", "Configure and activate at start; false leaves that to a lifecycle manager."),
    "log_level": ("info", "debug, info, warn, error or fatal."),
    "image_topic": ("", "Topic of the camera's images; empty = what params_file says."),
    "model": ("", "Directory of the checkpoint; empty = what params_file says."),
}


def make_nodes(context):
    """Turn the arguments into the node, leaving to params_file what was not given."""
    given = {name: context.launch_configurations[name] for name in ARGUMENTS}
    parameters = {name: as_bool(name, given[name]) for name in ("use_sim_time", "autostart")}
    parameters |= {name: given[name] for name in ("image_topic", "model") if given[name]}
    return [
        Node(
            package="exaone_ros",
            executable="perception",
            name="perception",
            namespace=given["namespace"],
            parameters=[given["params_file"], parameters],
            arguments=["--ros-args", "--log-level", given["log_level"]],
            output="screen",
        )
    ]


def as_bool(name, text):
    """Read a launch argument, which is always text, as the bool that the parameter is."""
    if text.lower() not in ("true", "false"):
        raise ValueError(f"launch argument '{name}' is '{text}'; expected true or false")
    return text.lower() == "true"


def generate_launch_description():
    """Called by `ros2 launch`."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=make_nodes)])
