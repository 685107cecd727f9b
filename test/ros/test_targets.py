"""From a decision to a place: the newest, the most certain, at the posture of the image; what lacks is named."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("mujoco")

from exaone_ros.action import localise
from exaone_ros.action.kinematics import Kinematics
from exaone_ros.action.localise import PinholeCamera
from exaone_ros.action.spec import NS
from exaone_ros.errors import ActionError
from exaone_ros.ros.targets import Seen, TargetFinder
from exaone_ros.sim.humanoid import CAMERA_NAME, HOME_RAD, head_camera_pose
from exaone_ros.sim.mjcf import robot_mjcf

K = (539.0, 0.0, 319.5, 0.0, 539.0, 239.5, 0.0, 0.0, 1.0)
NOW = 100 * NS


def box_of_cylinder(x: float, y: float, pan: float) -> tuple[float, ...]:
    position, rotation = head_camera_pose(pan, HOME_RAD["head_tilt"])
    eye = PinholeCamera(K[0], (K[2], K[5]), position, rotation.T)
    return tuple(localise._box(localise._cylinder(np.array([x, y, 0.03, 0.1]), eye, 0.8), eye))


@pytest.fixture(scope="module")
def kinematics() -> Kinematics:
    return Kinematics(robot_mjcf())


@pytest.fixture
def finder(kinematics: Kinematics) -> TargetFinder:
    """It saw a cylinder while the head was turned, and the head has turned back since."""
    made = TargetFinder(kinematics, CAMERA_NAME, 0.8)
    made.on_camera_info(K)
    for step in range(11):
        pan = 0.3 * (1 - step / 10)
        made.on_joints(NOW - NS + step * NS // 10, HOME_RAD | {"head_pan": pan, "unknown_joint": 3.0})
    box = box_of_cylinder(0.6, 0.1, 0.3)
    low = box_of_cylinder(0.5, -0.2, 0.3)
    seen = [Seen("red cylinder", low, 0.4), Seen("red cylinder", box, 0.8), Seen("mug", low, 0.9)]  # type: ignore[arg-type]
    made.on_detections(NOW - NS, seen)
    made.on_decision(NOW - NS, "red cylinder")
    made.on_decision(NOW, "")
    return made


def test_locates_the_most_certain_at_the_posture_of_the_image(finder: TargetFinder) -> None:
    assert finder.choice(NOW, 2.0) == "red cylinder"
    target = finder.locate("red cylinder", NOW, 2.0)
    assert target.position == pytest.approx((0.6, 0.1, 0.9), abs=2e-3)
    assert target.stamp_ns == NOW - NS


def test_joints_may_come_in_several_messages_and_as_often_as_they_like(finder: TargetFinder) -> None:
    for step in range(5000):  # a second of a fast robot, whose gripper has a driver of its own
        finder.on_joints(NOW + step * NS // 5000, {"right_finger_0": 0.01})
    finder.on_joints(NOW + NS, {"head_pan": 0.3})
    finder.on_detections(NOW + NS, [Seen("red cylinder", box_of_cylinder(0.6, 0.1, 0.3), 0.8)])  # type: ignore[arg-type]
    assert finder.locate("red cylinder", NOW + NS, 2.0).position == pytest.approx((0.6, 0.1, 0.9), abs=2e-3)


def test_what_was_before_a_reset_is_forgotten(finder: TargetFinder) -> None:
    """Also where the clock comes to the same times again."""
    for step in range(11):
        finder.on_joints(NOW - 2 * NS + step * NS // 5, HOME_RAD | {"head_pan": 0.3})
    with pytest.raises(ActionError, match="no decision came yet"):
        finder.choice(NOW, 2.0)
    with pytest.raises(ActionError, match="no detections came yet"):
        finder.locate("red cylinder", NOW, 2.0)
    finder.on_detections(NOW, [Seen("red cylinder", box_of_cylinder(0.6, 0.1, 0.3), 0.8)])  # type: ignore[arg-type]
    assert finder.locate("red cylinder", NOW, 2.0).position == pytest.approx((0.6, 0.1, 0.9), abs=2e-3)


def test_a_joint_that_has_not_come_since_a_reset_is_unknown(finder: TargetFinder) -> None:
    finder.on_joints(NOW - 10 * NS, HOME_RAD)  # which does not name the joint that turns the head
    finder.on_detections(NOW - 10 * NS, [Seen("mug", (1.0, 1.0, 9.0, 9.0), 0.9)])
    with pytest.raises(ActionError, match=r"joint states have 'head_pan' silent for inf s"):
        finder.locate("mug", NOW - 10 * NS, 2.0)


def test_a_driver_with_a_clock_of_its_own_makes_nobody_forget(finder: TargetFinder) -> None:
    for step in range(3):
        finder.on_joints(5 * NS + step, {"right_finger_0": 0.01})
        finder.on_joints(0, {"left_finger_0": 0.01})
    assert finder.choice(NOW, 2.0) == "red cylinder"
    assert finder.locate("red cylinder", NOW, 2.0).position == pytest.approx((0.6, 0.1, 0.9), abs=2e-3)


def test_what_lacks_is_named(finder: TargetFinder, kinematics: Kinematics) -> None:
    with pytest.raises(ActionError, match=r"image 3\.00 s old; allowed are 2 s"):
        finder.choice(NOW + 2 * NS, 2.0)
    with pytest.raises(ActionError, match=r"newest detections is of an image 3\.00 s old"):
        finder.locate("mug", NOW + 2 * NS, 2.0)
    with pytest.raises(ActionError, match=r"newest decision is of an image 94\.00 s ahead of the clock"):
        finder.choice(NOW - 95 * NS, 2.0)
    with pytest.raises(ActionError, match=r"newest detections is of an image 94\.00 s ahead of the clock"):
        finder.locate("mug", NOW - 95 * NS, 2.0)
    with pytest.raises(ActionError, match=r"no 'ball' is among the detections; seen: \['mug', 'red cylinder'\]"):
        finder.locate("ball", NOW, 2.0)
    finder.on_detections(NOW + NS, [])
    with pytest.raises(ActionError, match="seen: nothing"):
        finder.locate("mug", NOW + NS, 2.0)
    finder.on_detections(NOW + NS, [Seen("mug", (300.0, 200.0, 340.0, 260.0), float("nan"))])
    with pytest.raises(ActionError, match=r"nearest to the image are 1\.00 s away"):
        finder.locate("mug", NOW + NS, 2.0)
    empty = TargetFinder(kinematics, CAMERA_NAME, 0.8)
    with pytest.raises(ActionError, match="no decision came yet"):
        empty.choice(NOW, 2.0)
    with pytest.raises(ActionError, match="no detections came yet"):
        empty.locate("mug", NOW, 2.0)
    empty.on_detections(NOW, [Seen("mug", (300.0, 200.0, 340.0, 260.0), 0.5)])
    with pytest.raises(ActionError, match="no camera_info came yet"):
        empty.locate("mug", NOW, 2.0)
    empty.on_camera_info(K)
    with pytest.raises(ActionError, match="no joint states came yet"):
        empty.locate("mug", NOW, 2.0)


def test_a_joint_without_a_number_is_named(finder: TargetFinder) -> None:
    finder.on_joints(NOW + NS // 10, HOME_RAD | {"head_tilt": float("nan"), "unknown_joint": float("nan")})
    finder.on_detections(NOW + NS // 10, [Seen("mug", (1.0, 1.0, 9.0, 9.0), 0.9)])
    with pytest.raises(ActionError, match=r"joint states have 'head_tilt' at nan: where the camera was is unknown"):
        finder.locate("mug", NOW, 2.0)


def test_a_driver_that_fell_silent_is_named_where_its_joints_carry_the_camera(finder: TargetFinder) -> None:
    seen = [Seen("red cylinder", box_of_cylinder(0.6, 0.1, 0.0), 0.9)]  # type: ignore[arg-type]
    for step in range(1, 21):
        finder.on_joints(NOW + step * NS // 10, HOME_RAD)  # which does not name the joint that turns the head
    finder.on_detections(NOW + 2 * NS, seen)
    with pytest.raises(ActionError, match=r"joint states have 'head_pan' silent for 2\.00 s: where the camera"):
        finder.locate("red cylinder", NOW + 2 * NS, 2.0)
    for step in range(21, 41):  # now arms and legs fall silent
        finder.on_joints(NOW + step * NS // 10, {"head_pan": 0.0, "head_tilt": HOME_RAD["head_tilt"]})
    finder.on_detections(NOW + 4 * NS, seen)
    assert finder.locate("red cylinder", NOW + 4 * NS, 2.0).position == pytest.approx((0.6, 0.1, 0.9), abs=2e-3)


def test_a_joint_without_a_number_that_does_not_carry_the_camera_does_no_harm(finder: TargetFinder) -> None:
    box = box_of_cylinder(0.6, 0.1, 0.3)
    for step, name in enumerate(("right_finger_0", "left_elbow"), start=1):  # as of a gripper without feedback
        now_ns = NOW + step * NS // 10
        finder.on_joints(now_ns, HOME_RAD | {"head_pan": 0.3, name: float("nan")})
        finder.on_detections(now_ns, [Seen("red cylinder", box, 0.9)])  # type: ignore[arg-type]
        assert finder.locate("red cylinder", now_ns, 2.0).position == pytest.approx((0.6, 0.1, 0.9), abs=2e-3)


def test_a_camera_that_is_no_pinhole_is_refused_with_its_reason(finder: TargetFinder) -> None:
    for k, d, why in (
        ((0.0,) * 9, (), "calibrate the camera"),
        (K, (0.0, 0.0, 0.0, 0.0, -0.2), "distortion .* rectified"),
        (K, (float("nan"),), "distortion"),
        ((*K[:4], 600.0, *K[5:]), (), "fx = 539 and fy = 600"),
    ):
        finder.on_camera_info(k, d)
        with pytest.raises(ActionError, match=why):
            finder.locate("red cylinder", NOW, 2.0)
    finder.on_camera_info(K, (0.0,) * 5)
    assert finder.locate("red cylinder", NOW, 2.0).position == pytest.approx((0.6, 0.1, 0.9), abs=2e-3)
