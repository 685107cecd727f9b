"""Reads SDF and URDF without the code that wrote them: elements by ElementTree, rotations by MuJoCo's own functions."""

from __future__ import annotations

from collections.abc import Mapping
from xml.etree.ElementTree import Element

import mujoco
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Frame = tuple[Array, Array]
"""Position [3] and rotation [3, 3]."""


def floats(text: str | None) -> Array:
    return np.array([float(word) for word in (text or "").split()])


def matrix_of(rpy: Array) -> Array:
    """Rotation of roll, pitch, yaw about fixed axes."""
    quaternion, matrix = np.zeros(4), np.zeros(9)
    mujoco.mju_euler2Quat(quaternion, rpy, "XYZ")  # capitals: about fixed axes
    mujoco.mju_quat2Mat(matrix, quaternion)
    return matrix.reshape(3, 3)


def frame_of(six: Array) -> Frame:
    return six[:3], matrix_of(six[3:])


def pose_of(element: Element) -> Frame:
    """The <pose> of an SDF element; without one, the identity."""
    pose = element.find("pose")
    return frame_of(np.zeros(6) if pose is None else floats(pose.text))


def origin_of(element: Element) -> Frame:
    """The <origin> of an URDF element; without one, the identity."""
    origin = element.find("origin")
    if origin is None:
        return frame_of(np.zeros(6))
    return floats(origin.get("xyz", "0 0 0")), matrix_of(floats(origin.get("rpy", "0 0 0")))


def compose(a: Frame, b: Frame) -> Frame:
    return a[0] + a[1] @ b[0], a[1] @ b[1]


def moved(prismatic: bool, axis: Array, value: float) -> Frame:
    """What a joint does."""
    if prismatic:
        return axis * value, np.eye(3)
    quaternion, matrix = np.zeros(4), np.zeros(9)
    mujoco.mju_axisAngle2Quat(quaternion, axis, value)
    mujoco.mju_quat2Mat(matrix, quaternion)
    return np.zeros(3), matrix.reshape(3, 3)


def tensor_of(element: Element) -> Array:
    """The inertia tensor of an SDF <inertia> or an URDF one."""
    value = {tag: float(element.get(tag) or element.findtext(tag) or "nan") for tag in _TENSOR}
    return np.array(
        [
            [value["ixx"], value["ixy"], value["ixz"]],
            [value["ixy"], value["iyy"], value["iyz"]],
            [value["ixz"], value["iyz"], value["izz"]],
        ]
    )


_TENSOR = ("ixx", "ixy", "ixz", "iyy", "iyz", "izz")


def sdf_links(model: Element, joints: Mapping[str, float]) -> dict[str, Frame]:
    """Where the links of an SDF model are when its joints are at these values; joints not named are at 0."""
    links = {link.attrib["name"]: link for link in model.findall("link")}
    joint_into = {
        joint.findtext("child"): joint for joint in model.findall("joint") if joint.findtext("child") in links
    }
    found: dict[str, Frame] = {}

    def place(name: str) -> Frame:
        if name not in found:
            link, joint = links[name], joint_into.get(name)
            pose = link.find("pose")
            parent = None if pose is None else pose.get("relative_to")
            frame = pose_of(model) if parent is None else place(parent)
            frame = compose(frame, pose_of(link))
            if joint is not None and joint.attrib["type"] != "fixed":
                assert parent == joint.findtext("parent"), name
                axis = floats(joint.findtext("axis/xyz"))
                value = joints.get(joint.attrib["name"], 0.0)
                frame = compose(frame, moved(joint.attrib["type"] == "prismatic", axis, value))
            found[name] = frame
        return found[name]

    for name in links:
        place(name)
    return found


def urdf_links(robot: Element, joints: Mapping[str, float]) -> dict[str, Frame]:
    """Where the links of an URDF are, as `sdf_links`; the root is at the origin."""
    into = {joint.find("child").attrib["link"]: joint for joint in robot.findall("joint")}  # type: ignore[union-attr]
    found: dict[str, Frame] = {}

    def place(name: str) -> Frame:
        if name not in found:
            if name not in into:
                return frame_of(np.zeros(6))
            joint = into[name]
            parent, axis = joint.find("parent"), joint.find("axis")
            assert parent is not None
            frame = compose(place(parent.attrib["link"]), origin_of(joint))
            if axis is not None:
                value = joints.get(joint.attrib["name"], 0.0)
                frame = compose(frame, moved(joint.attrib["type"] == "prismatic", floats(axis.get("xyz")), value))
            found[name] = frame
        return found[name]

    return {link.attrib["name"]: place(link.attrib["name"]) for link in robot.findall("link")}
