"""Example episodes: what the simulator records is a dataset that a head can be trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mujoco")
pytest.importorskip("pyarrow")
pytest.importorskip("av")

from exaone_ros.action.gate import Gate
from exaone_ros.action.recorder.reader import DatasetReader
from exaone_ros.action.robot import DEFAULT_ROBOT, load_robot
from exaone_ros.errors import ExaoneError
from exaone_ros.share import share_path
from exaone_ros.sim.mjcf import robot_mjcf
from exaone_ros.sim.tabletop import TabletopRenderer
from exaone_ros.training import episodes

SMALL = ["--episodes", "1", "--width", "64", "--height", "48"]


@pytest.fixture(scope="module", autouse=True)
def _needs_rendering() -> None:
    try:
        TabletopRenderer(64, 48, samples=0).close()
    except ExaoneError as error:
        pytest.skip(f"no rendering here: {error}")


def test_records_reaches_that_arrive(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(tmp_path / "set"), *SMALL]
    assert episodes.main(arguments) == 0
    distance_mm = float(capsys.readouterr().out.split("hand ")[1].split(" mm")[0])
    assert distance_mm < 20
    dataset = DatasetReader(tmp_path / "set")
    robot = load_robot(share_path(episodes.ROBOT_FILE), robot_mjcf)
    assert dataset.spec.hash == robot.spec.hash  # a head that is trained on it fits this robot
    episode = dataset.episode(0)
    assert episode.tasks[0] == f"pick the {episode.decisions[0]}"
    assert len(episode.action) > 30
    assert (np.abs(np.diff(episode.action, axis=0)) <= dataset.spec.max_velocity / 10 + 1e-6).all()
    assert np.abs(episode.state[1:] - episode.action[:-1]).max() < 0.2  # the robot follows
    images = dataset.images(0, "head")
    assert images.shape == (len(episode.action), 48, 64, 3)
    assert np.ptp(images) > 100
    assert episodes.main(arguments) == 0  # goes on, with another scene
    again = DatasetReader(tmp_path / "set")
    assert len(again) == 2
    assert again.episode(1).tasks[0] != episode.tasks[0] or len(again.episode(1).action) != len(episode.action)


def test_a_robot_without_a_camera_or_with_an_odd_rate_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert episodes.main([str(tmp_path / "set"), "--robot", str(share_path(DEFAULT_ROBOT))]) == 1
    assert "acts at 30 Hz; expected a multiple of 10 ms" in capsys.readouterr().err
    (tmp_path / "base.yaml").write_text(share_path(DEFAULT_ROBOT).read_text())
    blind = tmp_path / "robot.yaml"
    blind.write_text("extends: base.yaml\nfps: 10\n")
    assert episodes.main([str(tmp_path / "set"), "--robot", str(blind)]) == 1
    assert "has the cameras []; expected the head's alone" in capsys.readouterr().err


def test_the_bundled_episodes_fit_the_bundled_robot_and_pass_its_gate(repository: Path) -> None:
    dataset = DatasetReader(repository / "examples" / "tabletop_reach")
    robot = load_robot(share_path(episodes.ROBOT_FILE), robot_mjcf)
    assert (len(dataset), dataset.fps, dataset.spec.hash) == (3, 10.0, robot.spec.hash)
    for index in range(len(dataset)):
        episode, spec = dataset.episode(index), robot.spec
        assert dataset.images(index, "head").shape == (len(episode.action), 240, 320, 3)
        gate = Gate(spec)
        assert gate.open(spec.positions_from_state(episode.state[0]), 0) is None
        for step, action in enumerate(episode.action, 1):
            passed = gate.command(action, step * spec.dt_ns)
            assert isinstance(passed, np.ndarray)
            assert passed == pytest.approx(action, abs=1e-4)
