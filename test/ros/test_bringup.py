"""What the launch files start exists: executables, parameter files, parameters, topics. Without ROS's `launch`."""

from __future__ import annotations

import ast
import importlib.util
import shlex
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.launch_double import run_launch_file

from exaone_ros.ros.bringup import (
    COMPANION,
    DEMO,
    GAZEBO,
    PERCEPTION,
    PLANS,
    SIMULATION,
    world_sdf_path,
)
from exaone_ros.ros.launch_plan import IncludePlan, LaunchError, NodePlan, Step
from exaone_ros.share import share_path

ROOT = Path(__file__).parents[2]
FOREIGN = {
    ("robot_state_publisher", "robot_state_publisher"): {"robot_description", "use_sim_time"},
    ("ros_gz_sim", "create"): set(),
    ("ros_gz_bridge", "parameter_bridge"): {"config_file", "use_sim_time"},
}
"""(package, executable) of other packages -> the parameters of theirs that we set."""
VARIANTS: list[tuple[str, dict[str, str]]] = [
    *((name, {}) for name in PLANS),
    ("perception", {"image_topic": "/camera/image_raw", "model": "/models/x", "autostart": "false"}),
    ("perception", {"image_transport": "compressed", "reliability": "best_effort", "device": "cuda:1"}),
    ("perception", {"tasks_file": str(ROOT / "config/tasks.yaml"), "backend": "torch"}),
    ("companion", {"reliability": "best_effort", "depth_topic": "d", "camera_info_topic": "/i", "view": "true"}),
    ("demo", {"tasks_file": str(ROOT / "config/tasks.yaml"), "backend": "tensorrt", "device": "cuda"}),
    ("simulation", {"world": "blocked", "seed": "3", "use_sim_time": "true", "robot_state_publisher": "false"}),
    ("gazebo", {"world": "blocked", "headless": "false", "namespace": "robot"}),
    ("demo", {"simulator": "gazebo", "use_sim_time": "true"}),
    ("demo", {"world": "tabletop", "action_head": "false", "log_level": "debug", "depth": "true"}),
]


def nodes(steps: list[Step]) -> dict[str, NodePlan]:
    return {step.name: step for step in steps if isinstance(step, NodePlan)}


def executables() -> set[str]:
    """The executables that setup.py installs."""
    text = (ROOT / "setup.py").read_text(encoding="utf-8")
    strings = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.JoinedStr)]
    return {str(s.values[0].value).partition(" = ")[0] for s in strings if isinstance(s.values[0], ast.Constant)}


def parameters_of(executable: str) -> set[str]:
    """Parameters of one of our nodes, as its YAML file lists them (other tests hold the file to the node)."""
    file = ROOT / "config" / f"{executable}.yaml"
    if not file.is_file():
        declared = getattr(importlib.import_module(f"exaone_ros.nodes.{executable}"), "PARAMETERS", ())
        return {*(parameter.name for parameter in declared), "use_sim_time"}
    (section,) = yaml.safe_load(file.read_text(encoding="utf-8")).values()
    return {*section["ros__parameters"], "use_sim_time"}


@pytest.mark.parametrize(("name", "given"), VARIANTS)
def test_everything_that_is_named_exists(name: str, given: dict[str, str]) -> None:
    steps = PLANS[name].resolve(given)
    assert steps
    for step in steps:
        if isinstance(step, IncludePlan):
            assert (step.package, step.file) == ("ros_gz_sim", "launch/gz_sim.launch.py")
            continue
        if step.package == "exaone_ros":
            assert step.executable in executables()
            assert importlib.util.find_spec(f"exaone_ros.nodes.{step.executable}")
            assert set(step.parameters) <= parameters_of(step.executable), step.executable
        else:
            foreign = FOREIGN[step.package, step.executable]
            assert foreign - {"use_sim_time"} <= set(step.parameters) <= foreign
        for file in step.parameter_files:
            path = Path(file)
            assert path.is_absolute() and path.is_file()
            assert set(yaml.safe_load(path.read_text(encoding="utf-8"))) == {"/**"}, "would not reach a namespace"
    names = [(step.namespace, step.name) for step in steps if isinstance(step, NodePlan)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", PLANS)
def test_every_launch_file_runs_and_declares_its_plan(name: str) -> None:
    declared, started = run_launch_file(ROOT / "launch" / f"{name}.launch.py", {})
    plan = PLANS[name]
    assert [argument.arguments[0] for argument in declared] == [argument.name for argument in plan.arguments]
    for argument, made in zip(plan.arguments, declared, strict=True):
        assert made.named["default_value"] == argument.default and made.named["description"].endswith(".")
        assert made.named.get("choices", []) == list(argument.choices)
    assert len(started) == len(plan.resolve({}))
    for step, action in zip(plan.resolve({}), started, strict=True):
        if isinstance(step, IncludePlan):
            assert action.kind == "IncludeLaunchDescription"
            assert dict(action.named["launch_arguments"]) == dict(step.arguments)
            continue
        assert action.kind == "Node"
        for what in ("package", "executable", "name", "namespace"):
            assert action.named[what] == getattr(step, what)
        texts = [p for p in action.named["parameters"] if isinstance(p, str)]
        assert texts == list(step.parameter_files)
        values: dict[str, Any] = {}
        for more in (p for p in action.named["parameters"] if isinstance(p, dict)):
            values |= {key: v if isinstance(v, (bool, int, float)) else v.arguments[0] for key, v in more.items()}
        assert values == dict(step.parameters)
        if step.log_level:
            assert action.named["arguments"][-3:] == ["--ros-args", "--log-level", "info"]


def test_there_is_a_file_for_each_plan_and_no_other() -> None:
    files = {path.name.removesuffix(".launch.py") for path in (ROOT / "launch").iterdir() if path.is_file()}
    assert files == set(PLANS)


def test_all_take_what_nav2_users_expect() -> None:
    for plan in PLANS.values():
        names = {argument.name for argument in plan.arguments}
        assert {"namespace", "use_sim_time", "log_level"} <= names
        assert {"params_file", "bridge_file"} & names
    for plan in (PERCEPTION, DEMO):
        assert {"params_file", "autostart", "model"} <= {argument.name for argument in plan.arguments}
    assert PERCEPTION.defaults()["namespace"] == DEMO.defaults()["namespace"] == "exaone"


def test_what_is_not_given_is_left_to_the_parameter_file() -> None:
    (bare,) = nodes(PERCEPTION.resolve({})).values()
    assert bare.parameters == {}
    (manual,) = nodes(PERCEPTION.resolve({"use_sim_time": "true", "autostart": "false"})).values()
    assert manual.parameters == {"use_sim_time": True, "autostart": False}
    (full,) = nodes(PERCEPTION.resolve({"image_topic": "/c/image", "model": "/m"})).values()
    assert full.parameters["image_topic"] == "/c/image" and full.parameters["model"] == "/m"
    assert nodes(SIMULATION.resolve({}))["simulator"].parameters == {}
    assert nodes(SIMULATION.resolve({"use_sim_time": "false"}))["simulator"].parameters == {"publish_clock": False}
    for step in nodes(DEMO.resolve({})).values():
        assert not {"use_sim_time", "autostart", "publish_clock"} & set(step.parameters)


def test_what_is_given_reaches_the_node() -> None:
    tasks = str(ROOT / "config/tasks.yaml")
    computes = {"tasks_file": tasks, "model": "/m", "backend": "tensorrt", "device": "cuda:1"}
    camera = {"image_topic": "/c/image", "image_transport": "compressed", "reliability": "best_effort"}
    assert nodes(PERCEPTION.resolve(computes | camera))["perception"].parameters == computes | camera
    seen = nodes(DEMO.resolve(computes))["perception"].parameters
    assert {name: seen[name] for name in computes} == computes
    space = {"depth_topic": "/c/depth", "camera_info_topic": "/c/info", "target_frame": "map"}
    steps = nodes(COMPANION.resolve({**camera, **space, "view": "true"}))
    assert steps["companion"].parameters == camera | space and steps["rerun_view"].parameters == camera


def test_an_argument_that_is_read_by_nobody_is_told(caplog: pytest.LogCaptureFixture) -> None:
    _, started = run_launch_file(
        ROOT / "launch" / "perception.launch.py", {"image_topik": "/c/image", "robot": "x", "device": "cuda"}
    )
    assert len(started) == 1
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    assert "no argument 'image_topik'; did you mean 'image_topic'? (ignored here)" in caplog.messages[0]
    assert "no argument 'robot'; expected some of namespace, " in caplog.messages[1]


def test_the_simulator_publishes_the_time_that_others_follow() -> None:
    steps = nodes(SIMULATION.resolve({"use_sim_time": "true", "seed": "7", "world": "tabletop"}))
    assert steps["simulator"].parameters == {"publish_clock": True, "seed": 7, "world": "tabletop"}
    assert steps["robot_state_publisher"].parameters["use_sim_time"] is True


def test_the_demo_connects_its_nodes() -> None:
    steps = nodes(DEMO.resolve({}))
    assert list(steps) == ["simulator", "robot_state_publisher", "perception", "companion", "action_head"]
    assert steps["simulator"].namespace == "" and steps["perception"].namespace == "exaone"
    for name in ("perception", "companion"):
        assert steps[name].parameters["image_topic"] == "/head_camera/image_raw"
    assert steps["action_head"].parameters["trajectory_topic"] == "/joint_trajectory"
    gazebo = DEMO.resolve({"simulator": "gazebo", "use_sim_time": "true"})
    assert "simulator" not in nodes(gazebo) and "gazebo_bridge" in nodes(gazebo)
    with pytest.raises(LaunchError, match="use_sim_time"):
        DEMO.resolve({"simulator": "gazebo"})


def test_the_description_that_is_published_is_the_committed_one() -> None:
    text = nodes(SIMULATION.resolve({}))["robot_state_publisher"].parameters["robot_description"]
    assert ElementTree.fromstring(str(text)).attrib["name"] == "exaone_humanoid"


def test_gazebo_is_headless_unless_a_window_is_wanted() -> None:
    (include,) = (step for step in GAZEBO.resolve({}) if isinstance(step, IncludePlan))
    words = include.arguments["gz_args"].split()
    assert {"-r", "-s", "--headless-rendering"} <= set(words) and Path(words[-1]).is_file()
    assert include.arguments["on_exit_shutdown"] == "true"
    (window,) = (step for step in GAZEBO.resolve({"headless": "false"}) if isinstance(step, IncludePlan))
    assert not {"-s", "--headless-rendering"} & set(window.arguments["gz_args"].split())
    spawn = nodes(GAZEBO.resolve({}))["spawn_robot"].arguments
    assert Path(spawn[spawn.index("-file") + 1]).is_file()


def test_the_bridge_connects_what_the_robot_publishes_with_the_simulators_topics() -> None:
    bridged = yaml.safe_load(share_path("config/gazebo_bridge.yaml").read_text(encoding="utf-8"))
    allowed = {
        "ros_topic_name", "gz_topic_name", "ros_type_name", "gz_type_name", "direction", "publisher_queue",
        "subscriber_queue", "lazy",
    }  # fmt: skip
    for entry in bridged:
        assert set(entry) <= allowed and entry["direction"] in ("GZ_TO_ROS", "ROS_TO_GZ")
    in_gazebo = {entry["gz_topic_name"] for entry in bridged}
    robot = ElementTree.parse(share_path("description/exaone_humanoid.sdf"))
    topics = {element.text or "" for element in robot.iter("topic")}
    assert topics <= in_gazebo
    beside = {f"{topic.rpartition('/')[0]}/camera_info" for topic in topics if topic.endswith("image_raw")}
    assert in_gazebo == topics | beside | {"/clock"}
    in_ros = {entry["ros_topic_name"]: entry["ros_type_name"] for entry in bridged}
    assert in_ros == {
        "/clock": "rosgraph_msgs/msg/Clock",
        "head_camera/image_raw": "sensor_msgs/msg/Image",
        "head_camera/camera_info": "sensor_msgs/msg/CameraInfo",
        "head_camera/depth/image_raw": "sensor_msgs/msg/Image",
        "head_camera/depth/camera_info": "sensor_msgs/msg/CameraInfo",
        "ground_truth/boxes": "vision_msgs/msg/Detection2DArray",
        "joint_states": "sensor_msgs/msg/JointState",
        "joint_trajectory": "trajectory_msgs/msg/JointTrajectory",
    }


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("perception", {"autostart": "yes"}, ["autostart", "'yes'", "true or false"]),
        ("perception", {"image_topik": "x"}, ["image_topik", "did you mean 'image_topic'"]),
        ("perception", {"tasks_file": "nowhere.yaml"}, ["tasks_file", "nowhere.yaml", "path of a file"]),
        ("perception", {"backend": "tensorflow"}, ["backend", "onnxruntime, tensorrt"]),
        ("simulation", {"seed": "-1"}, ["seed", "whole number"]),
        ("simulation", {"log_level": "loud"}, ["log_level", "debug, info"]),
        (
            "simulation",
            {"params_file": "config/simulatr.yaml"},
            ["params_file", "config/simulatr.yaml", "path of a file"],
        ),
        ("gazebo", {"world": "tabletopp"}, ["tabletopp", "blocked, empty, tabletop"]),
        ("gazebo", {"world": "mine.yaml"}, ["YAML", "exaone_ros.sim.generate --world mine.yaml"]),
        ("gazebo", {"world": "/nowhere/mine.sdf"}, ["/nowhere/mine.sdf", "no file"]),
        ("demo", {"simulator": "isaac"}, ["simulator", "mujoco, gazebo"]),
    ],
)
def test_what_cannot_be_used_is_named(name: str, given: dict[str, str], words: list[str]) -> None:
    with pytest.raises(LaunchError) as caught:
        PLANS[name].resolve(given)
    for word in words:
        assert word in str(caught.value)


def test_a_world_of_ones_own_is_taken_by_path(tmp_path: Path) -> None:
    mine = tmp_path / "mine.sdf"
    mine.write_text("<sdf/>", encoding="utf-8")
    assert world_sdf_path(str(mine)) == str(mine)
    blank = tmp_path / "two mugs.sdf"
    blank.write_text("<sdf/>", encoding="utf-8")
    (include,) = (step for step in GAZEBO.resolve({"world": str(blank)}) if isinstance(step, IncludePlan))
    assert shlex.split(include.arguments["gz_args"])[-1] == str(blank)


def test_the_double_refuses_what_launch_does_not_know(tmp_path: Path) -> None:
    file = tmp_path / "wrong.launch.py"
    file.write_text(
        "from launch import LaunchDescription\nfrom launch_ros.actions import Node\n"
        "def generate_launch_description():\n    return LaunchDescription([Node(pakage='x', executable='y')])\n",
        encoding="utf-8",
    )
    with pytest.raises(AssertionError, match="pakage"):
        run_launch_file(file, {})
