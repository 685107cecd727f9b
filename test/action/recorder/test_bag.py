"""An episode out of a bag: sampled in time, joints by name, images by their encoding; what is missing is named."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("av")
pytest.importorskip("rosbags")

from rosbags import rosbag2, typesys

from exaone_ros.action.recorder import __main__ as cli
from exaone_ros.action.recorder import bag
from exaone_ros.action.recorder.reader import DatasetReader
from exaone_ros.action.recorder.writer import DatasetWriter
from exaone_ros.action.spec import NS, ActionSpec
from exaone_ros.errors import DatasetError

SPEC = ActionSpec.make_example()
STORE = typesys.get_typestore(typesys.Stores.ROS2_JAZZY)
EPOCH = 1_790_000_000 * NS


DECISION = "exaone_interfaces/msg/Decision"
DEFINITION = Path(__file__).parents[3] / "exaone_interfaces" / "msg" / "Decision.msg"
STORE.register(typesys.get_types_from_msg(DEFINITION.read_text(encoding="utf-8"), DECISION))


def write_bag(
    path: Path,
    storage: str,
    compressed: bool = False,
    joints: tuple[str, ...] = SPEC.joint_names,
    decides: bool = False,
    commanded: int = 3,
) -> None:
    """Two seconds: states at 100 Hz, commands at 50 Hz from 0.5 s on, images at 10 Hz. The shoulder tells the time.

    Where it decides: for the red cube at the beginning, for the blue ball after a second.
    """
    types = STORE.types
    time_type, header = types["builtin_interfaces/msg/Time"], types["std_msgs/msg/Header"]
    plugin = rosbag2.StoragePlugin.MCAP if storage == "mcap" else rosbag2.StoragePlugin.SQLITE3

    def stamp(ns: int) -> Any:
        return header(stamp=time_type(sec=ns // NS, nanosec=ns % NS), frame_id="")

    with rosbag2.Writer(path, version=9, storage_plugin=plugin) as writer:
        image_kind = "CompressedImage" if compressed else "Image"
        state = writer.add_connection("/joint_states", "sensor_msgs/msg/JointState", typestore=STORE)
        command = writer.add_connection("/joint_trajectory", "trajectory_msgs/msg/JointTrajectory", typestore=STORE)
        image = writer.add_connection("/camera", f"sensor_msgs/msg/{image_kind}", typestore=STORE)
        choices = {0: "red cube", 1000: "blue ball"} if decides else {}
        decision = writer.add_connection("/decision", DECISION, typestore=STORE) if decides else None
        for ms in range(0, 2001, 10):
            now, seconds = EPOCH + ms * 1_000_000, ms / 1000
            message = types["sensor_msgs/msg/JointState"](
                header=stamp(now),
                name=[*reversed(joints), "other"],
                position=np.array([0.01, -0.5, seconds / 4, 9.0][-len(joints) - 1 :]),
                velocity=np.zeros(0),
                effort=np.zeros(0),
            )
            writer.write(state, now, STORE.serialize_cdr(message, message.__msgtype__))
            if ms in choices:
                zero = types["builtin_interfaces/msg/Duration"](sec=0, nanosec=0)
                message = types[DECISION](
                    header=stamp(now),
                    task="pick",
                    instruction="",
                    choice=choices[ms],
                    options=list(choices.values()),
                    probabilities=np.array([0.5, 0.5], np.float32),
                    reason="",
                    reasoning="",
                    outcome=0,
                    message="",
                    latency=zero,
                    age=zero,
                )
                writer.write(decision, now, STORE.serialize_cdr(message, DECISION))
            if ms >= 500 and ms % 20 == 0:
                point = types["trajectory_msgs/msg/JointTrajectoryPoint"](
                    positions=np.array([seconds / 4 + 0.1, -0.5, 0.02][:commanded]),
                    velocities=np.zeros(0),
                    accelerations=np.zeros(0),
                    effort=np.zeros(0),
                    time_from_start=types["builtin_interfaces/msg/Duration"](sec=0, nanosec=33_000_000),
                )
                message = types["trajectory_msgs/msg/JointTrajectory"](
                    header=stamp(now), joint_names=list(SPEC.joint_names), points=[point]
                )
                writer.write(command, now, STORE.serialize_cdr(message, message.__msgtype__))
            if ms % 100 == 0:
                pixels = np.full((48, 64, 3), ms // 10, np.uint8)
                if compressed:
                    data = cv2.imencode(".png", pixels)[1]
                    message = types["sensor_msgs/msg/CompressedImage"](header=stamp(now), format="png", data=data)
                else:
                    rows = np.zeros((48, 200), np.uint8)  # padded: step is more than 3 * 64
                    rows[:, :192] = pixels.reshape(48, 192)
                    message = types["sensor_msgs/msg/Image"](
                        header=stamp(now),
                        height=48,
                        width=64,
                        encoding="rgb8",
                        is_bigendian=0,
                        step=200,
                        data=rows.ravel(),
                    )
                writer.write(image, now, STORE.serialize_cdr(message, message.__msgtype__))


def make_dataset(path: Path) -> Path:
    DatasetWriter(path, SPEC, {"head": (48, 64)}).close()
    return path


@pytest.mark.parametrize(("storage", "compressed"), [("mcap", False), ("mcap", True), ("sqlite3", False)])
def test_a_bag_becomes_an_episode(
    tmp_path: Path, storage: str, compressed: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    write_bag(tmp_path / "bag", storage, compressed)
    root = make_dataset(tmp_path / "set")
    arguments = ["from-bag", str(tmp_path / "bag"), str(root), "--spec", str(root), "--task", "lift the arm"]
    assert cli.main([*arguments, "--image", "head=/camera"]) == 0
    assert "wrote episode 0 of 46 frames" in capsys.readouterr().out  # 1.5 s at 30 Hz, from the first command on
    reader = DatasetReader(root)
    episode = reader.episode(0)
    assert episode.tasks[0] == "lift the arm"
    time_s = 0.5 + np.arange(46) / 30
    assert episode.state[:, 0] == pytest.approx(time_s / 4, abs=0.0026)  # the newest state, at most 10 ms old
    assert episode.state[:, 1] == pytest.approx(-0.5)  # by name, not by place
    assert episode.action[:, 0] == pytest.approx(time_s / 4 + 0.1, abs=0.0051)
    grey = reader.images(0, "head")[:, 20, 30].mean(axis=1)
    assert grey == pytest.approx(np.floor(time_s * 10 + 1e-6) * 10, abs=3)


def test_what_is_missing_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_bag(tmp_path / "bag", "mcap")
    root = make_dataset(tmp_path / "set")
    start = ["from-bag", str(tmp_path / "bag"), str(root), "--spec", str(root), "--task", "x"]
    for extra, words in (
        (["--image", "wrist=/camera"], "no topic given for camera 'head'"),
        (["--image", "head=/nowhere"], "has no topic '/nowhere'"),
        (["--image", "head=/camera", "--joint-states", "/js"], "has no topic '/js'"),
    ):
        assert cli.main([*start, *extra]) == 1
        assert words in capsys.readouterr().err
    write_bag(tmp_path / "poor", "mcap", joints=("finger", "elbow"))
    assert cli.main([start[0], str(tmp_path / "poor"), *start[2:], "--image", "head=/camera"]) == 1
    assert "lacks 'shoulder'" in capsys.readouterr().err
    assert cli.main([start[0], str(tmp_path / "none"), *start[2:], "--image", "head=/camera"]) == 1
    assert "does not exist" in capsys.readouterr().err
    assert len(DatasetReader(root)) == 0


@pytest.mark.parametrize(("storage", "pattern"), [("mcap", "*.mcap"), ("sqlite3", "*.db3")])
def test_a_single_file_without_its_directory_is_enough(tmp_path: Path, storage: str, pattern: str) -> None:
    write_bag(tmp_path / "bag", storage)
    (file,) = (tmp_path / "bag").glob(pattern)
    frames = list(bag.read_frames(file, SPEC, bag.Topics(images={"head": "/camera"}), "lift the arm"))
    assert len(frames) == 46


def test_the_decision_that_was_acted_on_is_kept(tmp_path: Path) -> None:
    write_bag(tmp_path / "bag", "mcap", decides=True)
    topics = bag.Topics(images={"head": "/camera"}, decision="/decision")
    decisions = [decision for _, _, decision in bag.read_frames(tmp_path / "bag", SPEC, topics, "lift the arm")]
    assert (decisions[0], decisions[-1]) == ("red cube", "blue ball")


def test_joints_without_positions_are_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"joint state lacks 'elbow'; has \['shoulder'\]"):
        bag._pick(("shoulder", "elbow"), ["shoulder", "elbow"], np.array([0.1]), "joint state")
    write_bag(tmp_path / "bag", "mcap", commanded=2)
    topics = bag.Topics("/joint_states", "/joint_trajectory", {"head": "/camera"})
    with pytest.raises(DatasetError, match="a command of 3 joints has 2 positions; expected as many"):
        next(bag.read_frames(tmp_path / "bag", SPEC, topics, "pick"))


def test_damage_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_bag(tmp_path / "bag", "mcap")
    (file,) = (tmp_path / "bag").glob("*.mcap")
    file.write_bytes(file.read_bytes()[:-1000])
    root = make_dataset(tmp_path / "set")
    for path in (file, tmp_path / "bag", root):
        command = ["from-bag", str(path), str(root), "--spec", str(root), "--task", "x", "--image", "head=/camera"]
        assert cli.main(command) == 1
        assert f"bag {path} cannot be read: " in capsys.readouterr().err


def test_show_lists_episodes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make_dataset(tmp_path / "set")
    assert cli.main(["show", str(root)]) == 0
    assert "example_arm, 0 episodes at 30 Hz" in capsys.readouterr().out
    assert cli.main(["show", str(tmp_path)]) == 1
    assert "info.json is missing" in capsys.readouterr().err
    assert cli.main(["recover", str(root)]) == 0


@pytest.mark.parametrize(
    ("encoding", "pixel"),
    [("rgb8", (1, 2, 3)), ("bgr8", (3, 2, 1)), ("rgba8", (1, 2, 3, 9)), ("bgra8", (3, 2, 1, 9)), ("mono8", (7,))],
)
def test_encodings(encoding: str, pixel: tuple[int, ...]) -> None:
    step = 2 * len(pixel) + 3
    rows = np.zeros((2, step), np.uint8)
    rows[:, : 2 * len(pixel)] = pixel * 2
    image = bag.image_to_rgb(SimpleNamespace(height=2, width=2, step=step, encoding=encoding, data=rows.tobytes()))
    expected = (7, 7, 7) if encoding == "mono8" else (1, 2, 3)
    assert (image == expected).all()


def test_images_that_cannot_be_used() -> None:
    with pytest.raises(DatasetError, match="encoding is '16UC1'"):
        bag.image_to_rgb(SimpleNamespace(height=1, width=1, step=2, encoding="16UC1", data=b"12"))
    with pytest.raises(DatasetError, match="too few"):
        bag.image_to_rgb(SimpleNamespace(height=2, width=2, step=6, encoding="rgb8", data=b"12"))
    with pytest.raises(DatasetError, match="cannot be decoded"):
        bag.image_to_rgb(SimpleNamespace(format="jpeg", data=b"12"))
