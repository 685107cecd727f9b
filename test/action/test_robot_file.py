"""The robot file: the bundled one is whole, a wrong one is refused with its reason."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

pytest.importorskip("mujoco")

from exaone_ros.action.robot import DEFAULT_ROBOT, load_robot
from exaone_ros.errors import ActionError
from exaone_ros.share import share_path
from exaone_ros.sim.humanoid import JOINTS
from exaone_ros.sim.mjcf import robot_mjcf


def test_the_bundled_robot() -> None:
    robot = load_robot(None, robot_mjcf)
    assert set(robot.spec.joint_names) <= set(JOINTS)
    assert [arm.name for arm in robot.arms] == ["left", "right"]
    covered = [name for name, start, stop in robot.spec.slices for _ in range(start, stop)]
    assert len(covered) == len(robot.spec.joints)
    assert all(robot.spec.joints[start].name.startswith(name[:4]) for name, start, _ in robot.spec.slices)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"fps": -1}, "fps is -1"),
        ({"joints": {"tail": 1.0}}, "no joint 'tail'"),
        ({"joints": None}, "robot file"),
        ({"model": "missing.xml"}, "missing.xml cannot be read"),
        ({"arms": {"left": {"site": "paw", "joints": []}}}, "no site 'paw'"),
        ({"arms": {"left": {"joints": []}}}, "'site' is missing"),
        ({"colour": "red"}, r"holds \['colour'\]"),
    ],
)
def test_a_wrong_one_is_refused(tmp_path: Path, change: dict, words: str) -> None:
    entries = yaml.safe_load(share_path(DEFAULT_ROBOT).read_text()) | change
    path = tmp_path / "robot.yaml"
    path.write_text(yaml.safe_dump(entries, sort_keys=False))
    with pytest.raises(ActionError, match=words):
        load_robot(path, robot_mjcf)


def test_an_empty_model_needs_one_to_stand_for_it() -> None:
    with pytest.raises(ActionError, match="'model' is empty"):
        load_robot()


def test_no_yaml_is_refused(tmp_path: Path) -> None:
    (tmp_path / "robot.yaml").write_text("[")
    with pytest.raises(ActionError, match="cannot be read"):
        load_robot(tmp_path / "robot.yaml")


def test_a_file_may_extend_another(tmp_path: Path) -> None:
    base, camera = (
        load_robot(share_path(f"config/tabletop_humanoid{end}.yaml"), robot_mjcf) for end in ("", "_camera")
    )
    assert camera.camera_topics == {"head": "image_raw"}
    assert (camera.spec.joints, camera.spec.fps) == (base.spec.joints, 10.0)
    bundled = share_path("config/tabletop_humanoid_camera.yaml")
    (tmp_path / "mine.yaml").write_text(f"extends: {bundled}\ncameras: {{head: my_camera/image_raw}}\n")
    mine = load_robot(tmp_path / "mine.yaml", robot_mjcf)
    assert mine.camera_topics == {"head": "my_camera/image_raw"}
    assert mine.spec.hash == camera.spec.hash  # heads that were trained for the one work with the other


def test_a_model_is_found_from_the_file_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "robot.xml").write_text(robot_mjcf())
    (tmp_path / "base" / "robot.yaml").write_text(f"extends: {share_path(DEFAULT_ROBOT)}\nmodel: robot.xml\n")
    (tmp_path / "mine.yaml").write_text("extends: base/robot.yaml\nfps: 20\n")
    assert load_robot(tmp_path / "mine.yaml").spec.fps == 20


def test_what_cannot_be_extended_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("extends: b.yaml")
    (tmp_path / "b.yaml").write_text("extends: a.yaml")
    with pytest.raises(ActionError, match=r"a\.yaml, which extends it in turn"):
        load_robot(tmp_path / "a.yaml", robot_mjcf)
    (tmp_path / "a.yaml").write_text("extends: c.yaml")
    with pytest.raises(ActionError, match=r"c\.yaml cannot be read"):
        load_robot(tmp_path / "a.yaml", robot_mjcf)
