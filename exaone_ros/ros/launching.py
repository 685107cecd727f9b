"""Turns a plan into actions of ROS's `launch`. Imported by the files in launch/ only: no registry but apt has it."""

from __future__ import annotations

from typing import Any

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.logging import get_logger
from launch.substitutions import PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from exaone_ros.ros.launch_plan import IncludePlan, NodePlan, Plan, Step
from launch import LaunchDescription  # type: ignore[attr-defined]  # mypy takes our folder for it


def launch_description(plan: Plan) -> Any:
    """What `generate_launch_description` of a launch file returns."""
    declared = [
        DeclareLaunchArgument(
            argument.name,
            default_value=argument.default,
            description=argument.description,
            **({"choices": list(argument.choices)} if argument.choices else {}),
        )
        for argument in plan.arguments
    ]

    def start(context: Any) -> list[Any]:
        for line in plan.unread(context.argv):
            get_logger("launch.user").warning(line)
        given = {argument.name: context.launch_configurations[argument.name] for argument in plan.arguments}
        return [action_of(step) for step in plan.resolve(given)]

    return LaunchDescription([*declared, OpaqueFunction(function=start)])


def action_of(step: Step) -> Any:
    """The action that starts a step of a plan."""
    return _include(step) if isinstance(step, IncludePlan) else _node(step)


def _node(step: NodePlan) -> Any:
    # A text is a text, also where YAML would read a number or, in an URDF, a mapping.
    parameters = {
        name: ParameterValue(value, value_type=str) if isinstance(value, str) else value
        for name, value in step.parameters.items()
    }
    log = ["--ros-args", "--log-level", step.log_level] if step.log_level else []
    return Node(
        package=step.package,
        executable=step.executable,
        name=step.name,
        namespace=step.namespace,
        parameters=[*step.parameter_files, *([parameters] if parameters else [])],
        arguments=[*step.arguments, *log],
        output="screen",
    )


def _include(step: IncludePlan) -> Any:
    path = PathJoinSubstitution([FindPackageShare(step.package), *step.file.split("/")])
    return IncludeLaunchDescription(PythonLaunchDescriptionSource(path), launch_arguments=list(step.arguments.items()))
