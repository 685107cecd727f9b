"""SDF 1.9 for Gazebo Harmonic, Ionic and Jetty: the robot as a model, a scene as a world.

What SDF has no word for is left out: reflected inertia of motors (armature), the light that rides on MuJoCo's camera,
textures (their mean colour stands for them).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np

from exaone_ros.errors import SimulationError
from exaone_ros.sim.export.parts import (
    BOX,
    CAPSULE,
    CYLINDER,
    ELLIPSOID,
    MESH,
    PLANE,
    SPHERE,
    Camera,
    Inertia,
    Joint,
    Link,
    Shape,
    is_shown,
    read_inertia,
    read_shape,
)
from exaone_ros.sim.export.pose import OPTICAL, Pose
from exaone_ros.sim.export.xml import add, document, number, numbers, pose_text
from exaone_ros.sim.humanoid import CAMERA_FRAME_ID
from exaone_ros.sim.model import OBSTACLE_LABEL, PERSON_LABEL, TabletopModel
from exaone_ros.sim.scene import MUG_SIZES_M, Scene, names_of
from exaone_ros.sim.vocabulary import OBSTACLE, PERSON, label_number, name

SDF_VERSION = "1.9"
ROBOT = "exaone_humanoid"
IMAGE_PX = (640, 480)
CAMERA_RATE_HZ = 15.0
VIRTUAL_MASS_KG = 0.01
"""Of a link between two joints that share an origin: SDF and URDF know one joint per link, MuJoCo any number."""
VIRTUAL_INERTIA = 1e-5
VELOCITY_LIMIT_RAD_S, VELOCITY_LIMIT_M_S = 6.0, 0.2
"""Placeholders: MuJoCo limits no velocity."""
PHYSICS_STEP_S = 0.001
D_GAIN_SHARE = 0.2
"""Of the gain that takes all of a joint's speed within one step: beyond a half it would tremble."""
MESH_FOLDER = "meshes"
"""Beside the world file: Gazebo reads relative URIs from there."""


def virtual_link(joint: str) -> str:
    """Name of the massless link behind a joint that is not the last one before its body."""
    return f"{joint}_link"


def velocity_limit(joint: Joint) -> float:
    """Of a joint, rad/s or m/s."""
    return VELOCITY_LIMIT_M_S if joint.prismatic else VELOCITY_LIMIT_RAD_S


def explicit_d_gain(joint: Joint, inertia: float) -> float:
    """The damping gain of a controller that is evaluated once per step of Gazebo's physics.

    MuJoCo's motors are damped implicitly and turn an armature of their own; without both, the same gain makes a light
    link (the hand about its own axis) tremble. What is taken away here the joint's own damping, implicit in Gazebo's
    physics too, has to give.

    Args:
        joint: with MuJoCo's gain.
        inertia: that the joint moves, without the armature (`parts.bare_inertias`).
    """
    return min(joint.d_gain, D_GAIN_SHARE * inertia / PHYSICS_STEP_S)


def robot_sdf(robot: Link, inertias: Mapping[str, float]) -> str:
    """The robot as an SDF model whose pelvis is fixed to the world; its origin is on the floor between the feet.

    Args:
        robot: its root link.
        inertias: of `parts.bare_inertias`.
    """
    root = Element("sdf", version=SDF_VERSION)
    model = add(root, "model", name=ROBOT)
    mount = add(model, "joint", name="pelvis_mount", type="fixed")
    add(mount, "parent", "world")
    add(mount, "child", robot.name)
    _add_link(model, robot, "")
    for camera_link, camera in ((link, camera) for link in robot.all_links() for camera in link.cameras):
        frame = add(model, "frame", name=CAMERA_FRAME_ID, attached_to=camera_link.name)
        add(frame, "pose", pose_text(camera.pose @ OPTICAL))
    joints = robot.all_joints()
    states = _add_plugin(model, "joint-state-publisher", "JointStatePublisher")
    add(states, "topic", "joint_states")
    for joint in joints:
        add(states, "joint_name", joint.name)
    control = _add_plugin(model, "joint-trajectory-controller", "JointTrajectoryController")
    add(control, "topic", "joint_trajectory")
    for joint in joints:
        add(control, "joint_name", joint.name)
        add(control, "initial_position", joint.home)
        add(control, "position_p_gain", joint.p_gain)
        add(control, "position_i_gain", 0.0)
        add(control, "position_d_gain", explicit_d_gain(joint, inertias[joint.name]))
        add(control, "position_cmd_min", -joint.effort)
        add(control, "position_cmd_max", joint.effort)
    return document(root)


def world_sdf(tabletop: TabletopModel, scene: Scene, world: str) -> str:
    """A scene without the robot as an SDF world.

    Args:
        tabletop: model that the scene is applied to here.
        scene: what stands where.
        world: name of the world in Gazebo.
    """
    tabletop.apply(scene)
    root = Element("sdf", version=SDF_VERSION)
    sdf = add(root, "world", name=world)
    physics = add(sdf, "physics", name="1ms", type="ignored")
    add(physics, "max_step_size", PHYSICS_STEP_S)
    add(physics, "real_time_factor", 1.0)
    for file, system in (
        ("physics", "Physics"), ("user-commands", "UserCommands"), ("scene-broadcaster", "SceneBroadcaster"),
    ):  # fmt: skip
        _add_plugin(sdf, file, system)
    add(_add_plugin(sdf, "sensors", "Sensors"), "render_engine", "ogre2")
    add(sdf, "gravity", numbers(tabletop.model.opt.gravity))
    look = add(sdf, "scene")
    ambient = np.array(tabletop.model.vis.headlight.ambient)
    add(look, "ambient", numbers((*ambient, 1.0)))
    add(look, "background", ".75 .78 .8 1")
    add(look, "shadows", "true")
    for light in ("key", "fill"):
        _add_light(sdf, tabletop.model, light)
    _add_things(sdf, tabletop, scene)
    return document(root)


def _add_things(sdf: Element, tabletop: TabletopModel, scene: Scene) -> None:
    model = tabletop.model
    body_of = {model.body(b).name: b for b in range(model.nbody)}
    _add_model(sdf, tabletop, "room", [0], label=None, moves=False)
    _add_model(sdf, tabletop, "table", [body_of["table"]], label=None, moves=False)
    for index, (thing, unique) in enumerate(zip(scene.objects, names_of(scene.objects), strict=True)):
        label = label_number(name(thing.shape, thing.colour))
        _add_model(sdf, tabletop, unique, [body_of[f"object_{index}"]], label=label, moves=True)
    for label_id, what in ((OBSTACLE_LABEL, OBSTACLE), (PERSON_LABEL, PERSON)):
        bodies = {
            int(model.geom_bodyid[g])
            for g in range(model.ngeom)
            if int(tabletop.geom_labels[g]) == label_id and is_shown(model, g)
        }
        if bodies:
            _add_model(sdf, tabletop, what, sorted(bodies), label=label_number(what), moves=False)


def _add_model(
    sdf: Element, tabletop: TabletopModel, unique: str, bodies: list[int], *, label: int | None, moves: bool
) -> None:
    """Bodies as a model of one link; the first one's frame is the model's."""
    mj, model, data = tabletop.mj, tabletop.model, tabletop.data
    origin = Pose(np.array(data.xpos[bodies[0]]), np.array(data.xmat[bodies[0]]).reshape(3, 3))
    element = add(sdf, "model", name=unique)
    if not moves:
        add(element, "static", "true")
    add(element, "pose", pose_text(origin))
    link = add(element, "link", name="link")
    if moves:
        inertia = read_inertia(mj, model, bodies[0])
        assert inertia is not None
        _add_inertia(link, inertia)
    geoms = [g for g in range(model.ngeom) if int(model.geom_bodyid[g]) in bodies and is_shown(model, g)]
    for count, g in enumerate(geoms):
        pose = Pose(np.array(data.geom_xpos[g]), np.array(data.geom_xmat[g]).reshape(3, 3))
        _add_shape(link, read_shape(mj, model, g, origin.inverse() @ pose, f"{unique}_{count}"))
    if label is not None:
        add(_add_plugin(element, "label", "Label"), "label", str(label))


def _add_link(model: Element, link: Link, parent: str) -> None:
    """A link with its joints, and all links below it."""
    previous = parent
    for joint in link.joints[:-1]:
        between = virtual_link(joint.name)
        element = add(model, "link", name=between)
        _add_relative_pose(element, link.pose if previous == parent else None, previous)
        _add_inertia(element, Inertia(VIRTUAL_MASS_KG, np.zeros(3), VIRTUAL_INERTIA * np.eye(3)))
        if link.weightless:
            add(element, "gravity", "false")
        _add_joint(model, joint, previous, between)
        previous = between
    element = add(model, "link", name=link.name)
    _add_relative_pose(element, link.pose if previous == parent else None, previous)
    if link.inertia is not None:
        _add_inertia(element, link.inertia)
    if link.weightless:
        add(element, "gravity", "false")
    for shape in link.shapes:
        _add_shape(element, shape)
    for camera in link.cameras:
        _add_sensors(element, camera)
    if link.joints:
        _add_joint(model, link.joints[-1], previous, link.name)
    elif parent:
        joint_element = add(model, "joint", name=f"{link.name}_mount", type="fixed")
        add(joint_element, "parent", parent)
        add(joint_element, "child", link.name)
    for child in link.children:
        _add_link(model, child, link.name)


def _add_relative_pose(element: Element, pose: Pose | None, parent: str) -> None:
    text = "0 0 0 0 0 0" if pose is None else pose_text(pose)
    add(element, "pose", text, **({"relative_to": parent} if parent else {}))


def _add_joint(model: Element, joint: Joint, parent: str, child: str) -> None:
    element = add(model, "joint", name=joint.name, type="prismatic" if joint.prismatic else "revolute")
    add(element, "parent", parent)
    add(element, "child", child)
    axis = add(element, "axis")
    add(axis, "xyz", numbers(joint.axis))
    limit = add(axis, "limit")
    add(limit, "lower", joint.lower)
    add(limit, "upper", joint.upper)
    add(limit, "effort", joint.effort)
    add(limit, "velocity", velocity_limit(joint))
    dynamics = add(axis, "dynamics")
    add(dynamics, "damping", joint.damping)
    add(dynamics, "friction", joint.friction)


def _add_inertia(link: Element, inertia: Inertia) -> None:
    element = add(link, "inertial")
    add(element, "pose", numbers((*inertia.centre_m, 0.0, 0.0, 0.0)))
    add(element, "mass", inertia.mass_kg)
    tensor = add(element, "inertia")
    for tag, (row, column) in TENSOR.items():
        add(tensor, tag, float(inertia.tensor[row, column]))


TENSOR = {"ixx": (0, 0), "ixy": (0, 1), "ixz": (0, 2), "iyy": (1, 1), "iyz": (1, 2), "izz": (2, 2)}
"""The six numbers of an inertia tensor in SDF and URDF."""


def _add_shape(link: Element, shape: Shape) -> None:
    if shape.solid:
        collision = add(link, "collision", name=f"{shape.name}_collision")
        _add_collision_geometry(collision, shape)
        ode = add(add(add(collision, "surface"), "friction"), "ode")
        add(ode, "mu", shape.friction)
        add(ode, "mu2", shape.friction)
    visual = add(link, "visual", name=shape.name)
    add(visual, "pose", pose_text(shape.pose))
    _add_geometry(add(visual, "geometry"), shape)
    material = add(visual, "material")
    for tag in ("ambient", "diffuse"):
        add(material, tag, numbers(shape.rgba))
    add(material, "specular", "0.1 0.1 0.1 1")


def _add_collision_geometry(collision: Element, shape: Shape) -> None:
    """The shape itself; of a mug its wall as a full cylinder, which physics engines take better than a mesh."""
    add(collision, "pose", pose_text(shape.pose))
    geometry = add(collision, "geometry")
    if shape.kind != MESH:
        _add_geometry(geometry, shape)
        return
    radius, height = MUG_SIZES_M[int(shape.mesh.removeprefix("mug_"))]
    cylinder = add(geometry, "cylinder")
    add(cylinder, "radius", radius)
    add(cylinder, "length", height)


def _add_geometry(geometry: Element, shape: Shape) -> None:
    element = add(geometry, shape.kind)
    if shape.kind == BOX:
        add(element, "size", numbers(shape.size))
    elif shape.kind == SPHERE:
        add(element, "radius", shape.size[0])
    elif shape.kind in (CYLINDER, CAPSULE):
        add(element, "radius", shape.size[0])
        add(element, "length", shape.size[1])
    elif shape.kind == ELLIPSOID:
        add(element, "radii", numbers(shape.size))
    elif shape.kind == PLANE:
        add(element, "normal", "0 0 1")
        add(element, "size", numbers(shape.size))
    elif shape.kind == MESH:
        add(element, "uri", f"{MESH_FOLDER}/{shape.mesh}.obj")
    else:
        raise SimulationError(f"shape '{shape.name}' is a {shape.kind}; SDF has no such geometry")


def horizontal_fov_rad(fovy_deg: float, width: int, height: int) -> float:
    """Horizontal field of view of a camera with square pixels."""
    return 2 * math.atan(math.tan(math.radians(fovy_deg) / 2) * width / height)


def _add_sensors(link: Element, camera: Camera) -> None:
    """Image, depth and bounding boxes, all from the same place with the same projection."""
    for kind, topic in (
        ("camera", f"{camera.name}/image_raw"),
        ("depth_camera", f"{camera.name}/depth/image_raw"),
        # In a namespace of its own: the sensor also publishes an image and a camera_info beside its boxes.
        ("boundingbox_camera", f"{camera.name}/boxes/visible"),
    ):
        unique = camera.name if kind == "camera" else f"{camera.name}_{kind.removesuffix('_camera')}"
        sensor = add(link, "sensor", name=unique, type=kind)
        add(sensor, "pose", pose_text(camera.pose))
        add(sensor, "always_on", "true")
        add(sensor, "update_rate", CAMERA_RATE_HZ)
        add(sensor, "topic", topic)
        element = add(sensor, "camera", name=unique)
        if kind == "boundingbox_camera":
            add(element, "box_type", "visible_2d")
        add(element, "horizontal_fov", number(horizontal_fov_rad(camera.fovy_deg, *IMAGE_PX)))
        image = add(element, "image")
        add(image, "width", str(IMAGE_PX[0]))
        add(image, "height", str(IMAGE_PX[1]))
        add(image, "format", "R_FLOAT32" if kind == "depth_camera" else "R8G8B8")
        clip = add(element, "clip")
        add(clip, "near", camera.near_m)
        add(clip, "far", camera.far_m)
        add(element, "optical_frame_id", CAMERA_FRAME_ID)


def _add_light(sdf: Element, model: Any, name_of_light: str) -> None:
    light = model.light(name_of_light).id
    if not model.light_active[light]:
        return
    element = add(sdf, "light", name=name_of_light, type="directional")
    add(element, "pose", numbers((*model.light_pos[light], 0.0, 0.0, 0.0)))
    add(element, "cast_shadows", "true" if model.light_castshadow[light] else "false")
    add(element, "diffuse", numbers((*model.light_diffuse[light], 1.0)))
    add(element, "specular", numbers((*model.light_specular[light], 1.0)))
    add(element, "direction", numbers(model.light_dir[light]))


def _add_plugin(parent: Element, file: str, system: str) -> Element:
    return add(parent, "plugin", filename=f"gz-sim-{file}-system", name=f"gz::sim::systems::{system}")
