"""The plans of the launch files: which nodes, parameters and topics belong together. Knows neither `launch` nor rclpy.

A launch file is a plan's name; `launching` turns the plan into actions. So a test reads here which executables,
parameter files and topics belong together, and the files in launch/ hold nothing that could be wrong.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from exaone_ros.ros.launch_plan import Argument, IncludePlan, LaunchError, NodePlan, Plan, Step, Value, as_bool
from exaone_ros.share import share_path

CAMERA = "/head_camera"
ROBOT = "exaone_humanoid"


def _argument(name: str, default: str, description: str, *choices: str) -> Argument:
    return Argument(name, default, description, choices)


def _namespace(default: str) -> Argument:
    return _argument("namespace", default, "Namespace of the nodes and of their relative topics; empty = none.")


def _log_level() -> Argument:
    return _argument("log_level", "info", "Of every node.", "debug", "info", "warn", "error", "fatal")


def _params_file(default: str) -> Argument:
    return _argument("params_file", str(share_path(default)), "YAML file of parameters.")


_AUTOSTART = _argument(
    "autostart",
    "",
    "Configure and activate at start; false leaves that to a lifecycle manager; empty = what params_file says.",
)
_SIM_TIME = _argument(
    "use_sim_time",
    "",
    "Take the time from /clock (true) or from this machine (false); empty = what params_file says.",
)
_IMAGE_TOPIC = _argument("image_topic", "", "Topic of the camera's images; empty = what params_file says.")
_TRANSPORT = _argument(
    "image_transport", "", "raw or compressed; empty = what params_file says.", "", "raw", "compressed"
)
_RELIABILITY = _argument(
    "reliability",
    "",
    "Of the subscriptions to the camera; best_effort for one that offers no more; empty = what params_file says.",
    "",
    "reliable",
    "best_effort",
)
_MODEL = _argument("model", "", "Directory of the checkpoint; empty = what params_file says.")
_BACKEND = _argument(
    "backend",
    "",
    "What computes; server wants server_url and server_model in params_file; empty = what params_file says.",
    "",
    "onnxruntime",
    "tensorrt",
    "torch",
    "server",
)
_DEVICE = _argument("device", "", "Where it computes: cpu, cuda or cuda:N; empty = what params_file says.")
_TASKS_FILE = _argument("tasks_file", "", "YAML file of the standing tasks; empty = what params_file says.")
_WORLD = _argument("world", "", "Name of a world (tabletop, blocked, empty) or a YAML file; empty = drawn by seed.")
_STATE_PUBLISHER = _argument("robot_state_publisher", "true", "Also publish /tf and robot_description.")


def _file(given: Mapping[str, str], name: str) -> str:
    """The absolute path of a file that an argument names.

    Raises:
        LaunchError: there is no such file.
    """
    path = Path(given[name]).expanduser()
    if not path.is_file():
        raise LaunchError(f"launch argument '{name}' is '{given[name]}'; expected the path of a file")
    return str(path.absolute())


def _texts(given: Mapping[str, str], *names: str) -> dict[str, Value]:
    """Parameters named like arguments that were given; the others are left to the parameter file."""
    return {name: given[name] for name in names if given[name]}


def _flags(given: Mapping[str, str], *names: str) -> dict[str, Value]:
    """The same for those that are true or false.

    Raises:
        LaunchError: neither of the two.
    """
    return {name: as_bool(given, name) for name in names if given[name]}


def _perception(given: Mapping[str, str]) -> list[Step]:
    parameters = _flags(given, "use_sim_time", "autostart")
    if given["tasks_file"]:
        parameters["tasks_file"] = _file(given, "tasks_file")
    return [
        NodePlan(
            "perception",
            "perception",
            given["namespace"],
            (_file(given, "params_file"),),
            parameters | _texts(given, "image_topic", "image_transport", "reliability", "model", "backend", "device"),
            log_level=given["log_level"],
        )
    ]


PERCEPTION = Plan(
    "perception",
    (
        _namespace("exaone"),
        _SIM_TIME,
        _params_file("config/perception.yaml"),
        _AUTOSTART,
        _log_level(),
        _IMAGE_TOPIC,
        _TRANSPORT,
        _RELIABILITY,
        _TASKS_FILE,
        _MODEL,
        _BACKEND,
        _DEVICE,
    ),
    _perception,
)


def _state_publisher(given: Mapping[str, str]) -> list[Step]:
    if not as_bool(given, "robot_state_publisher"):
        return []
    urdf = share_path(f"description/{ROBOT}.urdf").read_text(encoding="utf-8")
    parameters: dict[str, Value] = {"robot_description": urdf, **_flags(given, "use_sim_time")}
    return [
        NodePlan(
            "robot_state_publisher",
            "robot_state_publisher",
            given["namespace"],
            parameters=parameters,
            package="robot_state_publisher",
            log_level=given["log_level"],
        )
    ]


def _simulation(given: Mapping[str, str]) -> list[Step]:
    # The simulator makes the time that the others follow; it takes none itself.
    parameters: dict[str, Value] = {}
    if given["use_sim_time"]:
        parameters["publish_clock"] = as_bool(given, "use_sim_time")
    if given["seed"]:
        parameters["seed"] = _whole_number(given, "seed")
    simulator = NodePlan(
        "simulator",
        "simulator",
        given["namespace"],
        (_file(given, "params_file"),),
        parameters | _texts(given, "world"),
        log_level=given["log_level"],
    )
    return [simulator, *_state_publisher(given)]


def _whole_number(given: Mapping[str, str], name: str) -> int:
    if not given[name].isdecimal():
        raise LaunchError(f"launch argument '{name}' is '{given[name]}'; expected a whole number, 0 or more")
    return int(given[name])


SIMULATION = Plan(
    "simulation",
    (
        _namespace(""),
        _argument(
            "use_sim_time",
            "",
            "Publish /clock and stamp with simulated time (true), or with wall time; empty = what params_file says.",
        ),
        _params_file("config/simulator.yaml"),
        _log_level(),
        _WORLD,
        _argument("seed", "", "Of the scenes where no world is given; empty = what params_file says."),
        _STATE_PUBLISHER,
    ),
    _simulation,
)


def world_sdf_path(world: str) -> str:
    """The SDF file of a world for Gazebo.

    Args:
        world: name of one of the package's worlds, or path of an SDF file.

    Raises:
        LaunchError: there is none; says how an SDF file is made of a YAML file.
    """
    if world.endswith((".yaml", ".yml")):
        raise LaunchError(
            f"world '{world}' is YAML, which Gazebo does not read; "
            f"make SDF of it: python -m exaone_ros.sim.generate --world {world} --out my_worlds"
        )
    if world.endswith((".sdf", ".world")) or "/" in world:
        path = Path(world).expanduser()
        if not path.is_file():
            raise LaunchError(f"world '{world}' is no file; expected an SDF file or the name of one of our worlds")
        return str(path.absolute())
    known = sorted(path.stem for path in share_path("worlds").glob("*.sdf"))
    if world not in known:
        raise LaunchError(f"world '{world}' does not exist; expected one of {', '.join(known)} or an SDF file")
    return str(share_path(f"worlds/{world}.sdf"))


def _gazebo(given: Mapping[str, str]) -> list[Step]:
    headless = ["-s", "--headless-rendering"] if as_bool(given, "headless") else []
    words = ["-r", *headless, "-v", given["gz_verbosity"], shlex.quote(world_sdf_path(given["world"]))]  # for a shell
    clock = _flags(given, "use_sim_time")
    return [
        IncludePlan(
            "ros_gz_sim",
            "launch/gz_sim.launch.py",
            # Harmonic's and Ionic's launch files compare the second one with texts.
            {"gz_args": " ".join(words), "on_exit_shutdown": "true"},
        ),
        NodePlan(
            "create",
            "spawn_robot",
            arguments=("-file", str(share_path(f"description/{ROBOT}.sdf")), "-name", ROBOT),
            package="ros_gz_sim",
        ),
        NodePlan(
            "parameter_bridge",
            "gazebo_bridge",
            given["namespace"],
            parameters={"config_file": _file(given, "bridge_file"), **clock},
            package="ros_gz_bridge",
            log_level=given["log_level"],
        ),
        NodePlan("gazebo_truth", "gazebo_truth", given["namespace"], parameters=clock, log_level=given["log_level"]),
        *_state_publisher(given),
    ]


GAZEBO = Plan(
    "gazebo",
    (
        _namespace(""),
        _argument("use_sim_time", "true", "Our nodes take the time from /clock, which Gazebo publishes."),
        _argument(
            "bridge_file",
            str(share_path("config/gazebo_bridge.yaml")),
            "YAML file of ros_gz_bridge: which topics cross.",
        ),
        _log_level(),
        _argument("world", "tabletop", "Name of a world (tabletop, blocked, empty) or an SDF file."),
        _argument("headless", "true", "No window: server only, rendering off screen (EGL)."),
        _argument("gz_verbosity", "2", "Of Gazebo's console.", "0", "1", "2", "3", "4"),
        _STATE_PUBLISHER,
    ),
    _gazebo,
)


def _views(given: Mapping[str, str], params_file: str, camera: Mapping[str, Value], view: bool) -> list[Step]:
    """The companion, and a Rerun viewer where it is wanted; `camera` are the parameters that say where images are."""
    common = _flags(given, "use_sim_time")
    companion = NodePlan(
        "companion",
        "companion",
        given["namespace"],
        (params_file,),
        {**camera, **common},
        log_level=given["log_level"],
    )
    seen = {name: value for name, value in camera.items() if name in ("image_topic", "image_transport", "reliability")}
    viewer = NodePlan(
        "rerun_view", "rerun_view", given["namespace"], (), {**seen, **common}, log_level=given["log_level"]
    )
    return [companion, viewer] if view else [companion]


def _companion(given: Mapping[str, str]) -> list[Step]:
    camera = _texts(
        given, "image_topic", "image_transport", "reliability", "depth_topic", "camera_info_topic", "target_frame"
    )
    if as_bool(given, "track"):
        camera["track"] = True
    return _views(given, _file(given, "params_file"), camera, as_bool(given, "view"))


_VIEW = _argument("view", "false", "Also open a Rerun viewer; needs pip install rerun-sdk.")

COMPANION = Plan(
    "companion",
    (
        _namespace("exaone"),
        _SIM_TIME,
        _params_file("config/companion.yaml"),
        _log_level(),
        _IMAGE_TOPIC,
        _TRANSPORT,
        _RELIABILITY,
        _argument("depth_topic", "", "Topic of aligned depth, for detections_3d; empty = what params_file says."),
        _argument(
            "camera_info_topic",
            "",
            "Topic of the camera's projection, for detections_3d; empty = what params_file says: beside the images.",
        ),
        _argument("target_frame", "", "Frame of detections_3d; empty = what params_file says."),
        _argument("track", "false", "Follow boxes between looks: detections_tracked; false = what params_file says."),
        _VIEW,
    ),
    _companion,
)


def _demo(given: Mapping[str, str]) -> list[Step]:
    """Simulator, perception, pictures of the answers, and an action head whose gate is closed until a goal comes."""
    shared = {name: given[name] for name in ("log_level", "robot_state_publisher")} | {"namespace": ""}
    if given["simulator"] == "gazebo":
        if not _flags(given, "use_sim_time").get("use_sim_time"):
            raise LaunchError(
                f"launch argument 'use_sim_time' is '{given['use_sim_time']}'; with simulator:=gazebo it has to be true"
            )
        chosen = {"world": given["world"]} if given["world"] else {}
        simulation = GAZEBO.resolve({**shared, **chosen, "headless": given["headless"]})
    else:
        simulation = SIMULATION.resolve(
            {
                **shared,
                "use_sim_time": given["use_sim_time"],
                "params_file": given["simulator_params_file"],
                "world": given["world"],
                "seed": given["seed"],
            }
        )
    handed_on = ("namespace", "use_sim_time", "log_level", "params_file", "autostart", "tasks_file")
    common = {name: given[name] for name in (*handed_on, "model", "backend", "device")}
    perception = PERCEPTION.resolve({**common, "image_topic": f"{CAMERA}/image_raw"})
    file = str(share_path("config/companion.yaml"))
    camera: dict[str, Value] = {"image_topic": f"{CAMERA}/image_raw"}
    if as_bool(given, "depth"):
        camera |= {"depth_topic": f"{CAMERA}/depth/image_raw", "camera_info_topic": f"{CAMERA}/camera_info"}
    views = _views(given, file, camera, as_bool(given, "view"))
    action_head = NodePlan(
        "action_head",
        "action_head",
        given["namespace"],
        (str(share_path("config/action_head.yaml")),),
        {
            "joint_states_topic": "/joint_states",
            "trajectory_topic": "/joint_trajectory",
            "camera_info_topic": f"{CAMERA}/camera_info",
            **_flags(given, "use_sim_time", "autostart"),
        },
        log_level=given["log_level"],
    )
    wanted = [action_head] if as_bool(given, "action_head") else []
    return [*simulation, *perception, *views, *wanted]


DEMO = Plan(
    "demo",
    (
        _namespace("exaone"),
        _argument("use_sim_time", "", "Everything follows the simulator's /clock; empty = what params_file says."),
        _params_file("config/perception.yaml"),
        _AUTOSTART,
        _log_level(),
        _argument("simulator", "mujoco", "Which one; gazebo wants use_sim_time:=true.", "mujoco", "gazebo"),
        _argument(
            "simulator_params_file", str(share_path("config/simulator.yaml")), "YAML file of the MuJoCo simulator."
        ),
        _argument("world", "", "Name of a world (tabletop, blocked, empty) or a file; empty = as the simulator does."),
        _argument("seed", "", "Of MuJoCo's scenes where no world is given."),
        _argument("headless", "true", "Gazebo without a window."),
        _TASKS_FILE,
        _MODEL,
        _BACKEND,
        _DEVICE,
        _VIEW,
        _argument("depth", "false", "Also locate detections in space; the depth image costs rendering time."),
        _argument("action_head", "true", "Also start the action head; its gate stays closed until it gets a goal."),
        _STATE_PUBLISHER,
    ),
    _demo,
)

PLANS: dict[str, Plan] = {plan.name: plan for plan in (PERCEPTION, COMPANION, SIMULATION, GAZEBO, DEMO)}
"""Every launch file of the package."""
