"""What becomes of every command in the documentation: run here, run by another test, or not run, and why."""

from __future__ import annotations

import re
from dataclasses import dataclass

End = tuple[str, str, str]
"""(fully qualified node, in or out, topic): what a node has opened once it works."""


@dataclass(frozen=True)
class Node:
    """Starts one of our nodes or launch files: it is awaited until it has opened these ends, then ended.

    Attributes:
        opens: what shows that the words of the command had their effect.
    """

    opens: tuple[End, ...]


@dataclass(frozen=True)
class Shell:
    """Runs in bash and ends by itself.

    Attributes:
        shows: in what it prints.
        writes: a file that is there afterwards.
    """

    shows: str = ""
    writes: str = ""


@dataclass(frozen=True)
class Live:
    """A verb of `ros2` on the running demo; `ros2_double` stands in for the command."""


@dataclass(frozen=True)
class Elsewhere:
    """Another test does the same.

    Attributes:
        test: ``path::function``.
        word: in that file, which shows that it is about this.
    """

    test: str
    word: str


@dataclass(frozen=True)
class NotHere:
    """Cannot be run by a test on a machine without ROS from apt, GPU, Gazebo or network."""

    reason: str


Fate = Node | Shell | Live | Elsewhere | NotHere

APT, NETWORK = "needs apt's ROS 2", "loads from the network"
SECURITY = "the wheels' middleware is built without security"
GPU, TRAINING = "needs a GPU with TensorRT", "takes minutes to hours of training; test/training runs its parts"
GAZEBO = "needs Gazebo; test/gazebo runs it where there is one"
CPP = Elsewhere("test/ros/test_docs_cpp.py::test_the_package_of_the_subscriber_is_built", "out/lib/listener/listener")
COLCON = Elsewhere("scripts/provision/lanes.py::colcon", "--base-paths")
PERCEPTION, COMPANION = "/exaone/perception", "/exaone/companion"
RUN, LAUNCH = "ros2 run exaone_ros", "ros2 launch exaone_ros"
NS = "--ros-args -r __ns:=/exaone"
SERVER = Elsewhere(
    "test/ros/test_perception_with_server.py::test_answers_come_from_the_server_until_it_dies", "server_url"
)

FATES: dict[str, Fate] = {
    "make demo": Elsewhere("test/ros/test_demo.py::test_frames_are_answered", "exaone_ros.nodes.demo"),
    "make test": NotHere("is what runs this test"),
    "make bench": NotHere("times for minutes; test/bench tests its parts"),
    "make help": Shell("make demo"),
    "mkdir -p ~/ws/src && cp -r . ~/ws/src/exaone_ros && cd ~/ws": COLCON,
    "colcon build --base-paths src/exaone_ros src/exaone_ros/exaone_interfaces": COLCON,
    "cd ~/ws && colcon build --packages-select listener && source install/setup.bash": CPP,
    "ros2 run listener listener": CPP,
    "source install/setup.bash": COLCON,
    f"{LAUNCH} perception.launch.py image_topic:=/camera/image_raw image_transport:=compressed": Node(
        ((PERCEPTION, "in", "/camera/image_raw/compressed"),)
    ),
    f"{LAUNCH} perception.launch.py image_topic:=/camera/image_raw": Node(
        ((PERCEPTION, "in", "/camera/image_raw"), (PERCEPTION, "out", "/exaone/detections"))
    ),
    f"{RUN} companion {NS} -p image_topic:=/camera/image_raw": Node(((COMPANION, "out", "/exaone/annotated"),)),
    f"{RUN} companion {NS}/front -p image_topic:=/front/image_raw": Node(
        (("/exaone/front/companion", "in", "/exaone/front/detections"),)
    ),
    f"{RUN} companion {NS} -p image_topic:=/camera/color/image_raw "
    "-p depth_topic:=/camera/aligned_depth_to_color/image_raw": Node(
        (
            (COMPANION, "in", "/camera/aligned_depth_to_color/image_raw"),
            (COMPANION, "in", "/camera/color/camera_info"),
            (COMPANION, "out", "/exaone/detections_3d"),
        )
    ),
    f"{LAUNCH} companion.launch.py image_topic:=/camera/color/image_raw "
    "depth_topic:=/camera/aligned_depth_to_color/image_raw": Node(
        ((COMPANION, "in", "/camera/aligned_depth_to_color/image_raw"), (COMPANION, "out", "/exaone/markers"))
    ),
    f"{RUN} perception {NS} -p image_topic:=/camera/image_raw -p image_transport:=compressed": Node(
        ((PERCEPTION, "in", "/camera/image_raw/compressed"),)
    ),
    "python -m exaone_ros.nodes.simulator --ros-args -p world:=tabletop": Node(
        (("/simulator", "out", "/head_camera/image_raw"),)
    ),
    "python -m exaone_ros.nodes.simulator --ros-args -p world:=/home/me/two_mugs.yaml": Node(
        (("/simulator", "out", "/ground_truth/detections"),)
    ),
    "python -m exaone_ros.nodes.simulator --ros-args --params-file config/simulator.yaml "
    "-p seed:=3 -p scene_period_s:=5.0": Node((("/simulator", "out", "/joint_states"),)),
    "python -m exaone_ros.nodes.perception --ros-args -r __ns:=/exaone -p use_sim_time:=true "
    "-p image_topic:=/head_camera/image_raw -p image_transport:=compressed": Node(
        ((PERCEPTION, "in", "/head_camera/image_raw/compressed"), (PERCEPTION, "in", "/clock"))
    ),
    "python -m exaone_ros.nodes.replay test/data/tabletop_bag": Node(
        (("/replay", "out", "/head_camera/image_raw/compressed"), ("/replay", "out", "/clock"))
    ),
    f"{RUN} simulator {NS} -p world:=tabletop": Node((("/exaone/simulator", "out", "/exaone/head_camera/image_raw"),)),
    f"{RUN} perception {NS} -p image_topic:=head_camera/image_raw -p tasks_file:=pick.yaml": Node(
        ((PERCEPTION, "in", "/exaone/head_camera/image_raw"),)
    ),
    f"{RUN} action_head {NS} -p camera_info_topic:=head_camera/camera_info": Node(
        (("/exaone/action_head", "in", "/exaone/head_camera/camera_info"),)
    ),
    f"{LAUNCH} demo.launch.py action_head:=false": Node(
        (("/simulator", "out", "/head_camera/image_raw"), (COMPANION, "out", "/exaone/annotated"))
    ),
    f"{LAUNCH} demo.launch.py world:=tabletop": Live(),
    "ros2 topic echo /exaone/decision": Live(),
    "ros2 topic echo --once /exaone/status": Live(),
    "ros2 topic pub -r 10 /exaone/heartbeat std_msgs/msg/Empty": Live(),
    "ros2 param describe /exaone/perception max_age_s": Live(),
    "ros2 param set /exaone/perception max_age_s 0.5": Live(),
    f"{RUN} perception {NS} --enclave /exaone/perception": NotHere(SECURITY),
    f"{RUN} perception --ros-args -p backend:=server -p server_url:=http://brain:8000/v1 "
    "-p server_model:=LGAI-EXAONE/EXAONE-4.5-33B": SERVER,
    "python -m exaone_ros.engine.serve --model models/exaone4_5-tabletop-tiny --host 0.0.0.0 --port 8000": Elsewhere(
        "test/support/served.py::__init__", "exaone_ros.engine.serve"
    ),
    f"{RUN} perception {NS} -p model:=models/my-checkpoint -p backend:=tensorrt -p device:=cuda -p slots:=4": NotHere(
        GPU
    ),
    "exaone report demo_out/bag --out report.html": Shell("report.html", writes="report.html"),
    "exaone doctor models/my-checkpoint": Shell("checkpoint"),
    "python -m exaone_ros.nodes.graph policy --image-topic /camera/color/image_raw > policy.xml": Shell(
        writes="policy.xml"
    ),
    "python -m exaone_ros.nodes.graph policy --cameras front wrist --params-file config/perception.yaml "
    "> policy.xml": Elsewhere(
        "test/ros/test_graph.py::test_named_cameras_and_ones_own_parameters_are_covered", "--cameras"
    ),
    "python -m exaone_ros.nodes.graph policy --launch demo depth:=true > policy.xml": Elsewhere(
        "test/ros/test_graph.py::test_the_policy_of_the_demo_is_what_its_launch_file_starts", "--launch"
    ),
    "python -m exaone_ros.nodes.scenario": Elsewhere("test/ros/test_scenarios.py::test_story", "STORIES"),
    "cd ~/ros2_ws && git clone <this repository> src/exaone_ros": NotHere(NETWORK),
    "python -m exaone_ros.training.episodes DATASET --episodes 50": Elsewhere(
        "test/training/test_episodes.py::test_records_reaches_that_arrive", "--episodes"
    ),
}
PATTERNS: tuple[tuple[str, Fate], ...] = (
    (r"(sudo )?apt(-get)? |rosdep ", NotHere(APT)),
    (r"pip (install|download) ", NotHere(NETWORK)),
    (r"ros2 security ", NotHere(SECURITY)),
    (r"ros2 (run rqt_|launch ros)|rviz2 ", NotHere(APT)),
    (r"export ", Shell()),
    (r"cat > \S+ <<", Shell()),
    (r"ros2 (action|service|bag) ", Live()),
    (r"ros2 launch exaone_ros \w+\.launch\.py .*gazebo|ros2 launch exaone_ros gazebo", NotHere(GAZEBO)),
    (r"exaone compile ", NotHere(GPU)),
    (r"make gpu-check\b|python3? scripts/(gpu_check|build_layer)\.py", NotHere(GPU)),
    (r"python -m exaone_ros\.training \w+( |$)", NotHere(TRAINING)),
    (
        rf"{RUN} perception {NS}( -p (model|tasks_file):=\S+)+$",
        Node(((PERCEPTION, "in", "/exaone/image_raw"), (PERCEPTION, "out", "/exaone/counts"))),
    ),
    (
        r"python -m exaone_ros\.training\.flow_head ",
        Elsewhere("test/training/test_flow_head.py::test_the_command", "main("),
    ),
    (r"python -m exaone_ros\.bench\b", NotHere("times for minutes; test/bench tests its parts")),
    (
        r"python -m exaone_ros\.action\.recorder from-bag ",
        Elsewhere("test/action/recorder/test_bag.py::test_a_bag_becomes_an_episode", '"from-bag"'),
    ),
    (
        r".*head:=flow ",
        Elsewhere("test/ros/test_flow_head_node.py::test_it_acts_on_images_and_on_nothing_else", "flow"),
    ),
    (
        r".*head:=plugin ",
        Elsewhere(
            "test/ros/test_plugin_head_node.py::test_a_head_that_another_package_declares_moves_the_robot", "plugin"
        ),
    ),
    (
        r"python -m exaone_ros\.nodes\.rerun_view ",
        Elsewhere("test/ros/test_rerun_view.py::test_a_run_is_saved", "RerunView"),
    ),
)
"""For commands that differ only in what is the reader's own."""


def fate_of(command: str) -> Fate | None:
    """What becomes of a command; None where nobody has said it."""
    if command in FATES:
        return FATES[command]
    return next((fate for pattern, fate in PATTERNS if re.match(pattern, command)), None)
