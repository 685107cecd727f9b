"""URDF for robot_state_publisher, RViz and MoveIt: `world`, `base_link` between the feet, the pelvis mounted on it.

URDF has no capsules and ellipsoids: a capsule is a cylinder and two balls, an ellipsoid a unit ball that is scaled.
"""

from __future__ import annotations

from xml.etree.ElementTree import Element

import numpy as np

from exaone_ros.errors import SimulationError
from exaone_ros.sim.export.parts import (
    BOX,
    CAPSULE,
    CYLINDER,
    ELLIPSOID,
    SPHERE,
    Camera,
    Inertia,
    Joint,
    Link,
    Shape,
)
from exaone_ros.sim.export.pose import IDENTITY, OPTICAL, Pose
from exaone_ros.sim.export.sdf import ROBOT, TENSOR, VIRTUAL_INERTIA, VIRTUAL_MASS_KG, velocity_limit, virtual_link
from exaone_ros.sim.export.xml import add, document, number, numbers
from exaone_ros.sim.humanoid import CAMERA_FRAME_ID

WORLD_FRAME = "world"
"""The frame of ground truth: the floor between the robot's feet, where the base link is while it stands there."""
BASE_LINK = "base_link"
UNIT_BALL = "unit_ball"
PACKAGE_URI = "package://exaone_ros/description/meshes"


def robot_urdf(robot: Link) -> str:
    """The robot as URDF."""
    root = Element("robot", name=ROBOT)
    add(root, "link", name=WORLD_FRAME)  # without mass: KDL wants none at the root
    add(root, "link", name=BASE_LINK)
    _add_fixed(root, "world_mount", WORLD_FRAME, BASE_LINK, IDENTITY)
    _add_fixed(root, "pelvis_mount", BASE_LINK, robot.name, robot.pose)
    _add_link(root, robot, "")
    return document(root)


def camera_link(camera: Camera) -> str:
    """Name of the link that a camera is in, x ahead."""
    return f"{camera.name}_link"


def _add_link(root: Element, link: Link, parent: str) -> None:
    previous, pose = parent, link.pose
    for joint in link.joints[:-1]:
        between = virtual_link(joint.name)
        element = add(root, "link", name=between)
        _add_inertia(element, Inertia(VIRTUAL_MASS_KG, np.zeros(3), VIRTUAL_INERTIA * np.eye(3)))
        _add_joint(root, joint, previous, between, pose)
        previous, pose = between, IDENTITY
    element = add(root, "link", name=link.name)
    if link.inertia is not None:
        _add_inertia(element, link.inertia)
    for shape in link.shapes:
        for part in _parts(shape):
            _add_visual(element, part)
        if shape.solid:
            for part in _parts(shape):
                _add_collision(element, part)
    if link.joints:
        _add_joint(root, link.joints[-1], previous, link.name, pose)
    elif parent:
        _add_fixed(root, f"{link.name}_mount", parent, link.name, pose)
    for camera in link.cameras:
        add(root, "link", name=camera_link(camera))
        _add_fixed(root, f"{camera.name}_mount", link.name, camera_link(camera), camera.pose)
        add(root, "link", name=CAMERA_FRAME_ID)
        _add_fixed(root, f"{camera.name}_optical_mount", camera_link(camera), CAMERA_FRAME_ID, OPTICAL)
    for child in link.children:
        _add_link(root, child, link.name)


def _parts(shape: Shape) -> list[Shape]:
    """The shape in the shapes that URDF has."""
    if shape.kind != CAPSULE:
        return [shape]
    radius, length = shape.size
    ends = (Pose.of((0, 0, z)) for z in (-length / 2, length / 2))
    balls = [
        Shape(f"{shape.name}_end_{i}", SPHERE, (radius,), shape.pose @ end, shape.rgba, shape.solid, shape.friction)
        for i, end in enumerate(ends)
    ]
    middle = Shape(shape.name, CYLINDER, shape.size, shape.pose, shape.rgba, shape.solid, shape.friction)
    return [middle, *balls]


def _add_visual(link: Element, shape: Shape) -> None:
    visual = add(link, "visual", name=shape.name)
    _add_origin(visual, shape.pose)
    _add_geometry(visual, shape)
    material = add(visual, "material", name="rgba_" + "_".join(f"{round(255 * value):02x}" for value in shape.rgba))
    add(material, "color", rgba=numbers(shape.rgba))


def _add_collision(link: Element, shape: Shape) -> None:
    collision = add(link, "collision", name=f"{shape.name}_collision")
    _add_origin(collision, shape.pose)
    _add_geometry(collision, shape)


def _add_geometry(parent: Element, shape: Shape) -> None:
    geometry = add(parent, "geometry")
    if shape.kind == BOX:
        add(geometry, "box", size=numbers(shape.size))
    elif shape.kind == SPHERE:
        add(geometry, "sphere", radius=number(shape.size[0]))
    elif shape.kind == CYLINDER:
        add(geometry, "cylinder", radius=number(shape.size[0]), length=number(shape.size[1]))
    elif shape.kind == ELLIPSOID:
        add(geometry, "mesh", filename=f"{PACKAGE_URI}/{UNIT_BALL}.obj", scale=numbers(shape.size))
    else:
        raise SimulationError(f"shape '{shape.name}' is a {shape.kind}; URDF has no such geometry")


def _add_inertia(link: Element, inertia: Inertia) -> None:
    element = add(link, "inertial")
    add(element, "origin", xyz=numbers(inertia.centre_m), rpy="0 0 0")
    add(element, "mass", value=number(inertia.mass_kg))
    add(element, "inertia", **{tag: number(float(inertia.tensor[at])) for tag, at in TENSOR.items()})


def _add_joint(root: Element, joint: Joint, parent: str, child: str, pose: Pose) -> None:
    element = add(root, "joint", name=joint.name, type="prismatic" if joint.prismatic else "revolute")
    _add_origin(element, pose)
    add(element, "parent", link=parent)
    add(element, "child", link=child)
    add(element, "axis", xyz=numbers(joint.axis))
    add(
        element,
        "limit",
        lower=number(joint.lower),
        upper=number(joint.upper),
        effort=number(joint.effort),
        velocity=number(velocity_limit(joint)),
    )
    add(element, "dynamics", damping=number(joint.damping), friction=number(joint.friction))


def _add_fixed(root: Element, name: str, parent: str, child: str, pose: Pose) -> None:
    element = add(root, "joint", name=name, type="fixed")
    _add_origin(element, pose)
    add(element, "parent", link=parent)
    add(element, "child", link=child)


def _add_origin(element: Element, pose: Pose) -> None:
    add(element, "origin", xyz=numbers(pose.position), rpy=numbers(pose.rpy))
