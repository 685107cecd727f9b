"""The compiled world, taken apart: links, joints, shapes, inertias, cameras as plain values that a writer can walk.

Everything is read from the model that MuJoCo compiled, so that no writer has numbers of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from exaone_ros.errors import SimulationError
from exaone_ros.sim.export.pose import Pose
from exaone_ros.sim.humanoid import HOME_RAD
from exaone_ros.sim.mjcf import HIDDEN_GROUP, robot_mjcf

BOX, SPHERE, CYLINDER, CAPSULE, ELLIPSOID, PLANE, MESH = (
    "box", "sphere", "cylinder", "capsule", "ellipsoid", "plane", "mesh",
)  # fmt: skip

_DEFAULT_RGBA = (0.5, 0.5, 0.5, 1.0)
"""What MuJoCo takes for 'no colour of its own': the material's shows."""


@dataclass(frozen=True)
class Shape:
    """One primitive or mesh of a link.

    Attributes:
        name: unique within its model.
        kind: one of the names above.
        size: box: full edges; sphere: radius; cylinder and capsule: radius, length of the straight part; ellipsoid:
            radii; plane: full edges; mesh: none. Metres.
        pose: in the link's frame.
        rgba: colour; of a texture, its mean.
        solid: whether it collides.
        friction: sliding friction.
        mesh: name of the mesh, or empty.
    """

    name: str
    kind: str
    size: tuple[float, ...]
    pose: Pose
    rgba: tuple[float, float, float, float]
    solid: bool
    friction: float
    mesh: str = ""


@dataclass(frozen=True)
class Inertia:
    """Attributes: mass (kg); centre of mass in the link's frame (m); inertia tensor about it, along the link's axes
    (kg m^2), float64 [3, 3]."""

    mass_kg: float
    centre_m: NDArray[np.float64]
    tensor: NDArray[np.float64]


@dataclass(frozen=True)
class Joint:
    """A hinge or slide with its motor.

    Attributes:
        name: as in JointState.
        prismatic: slide (metres) or hinge (radians).
        axis: unit vector in the frame of the link that it moves.
        lower, upper: position limits, rad or m.
        effort: largest force or torque of the motor, N or Nm.
        damping: Nm s/rad or N s/m.
        friction: dry friction, Nm or N.
        p_gain, d_gain: of the position controller.
        home: position to stand in.
    """

    name: str
    prismatic: bool
    axis: tuple[float, float, float]
    lower: float
    upper: float
    effort: float
    damping: float
    friction: float
    p_gain: float
    d_gain: float
    home: float


@dataclass(frozen=True)
class Camera:
    """Attributes: name; pose in its link's frame, x ahead, y left, z up; vertical field of view; clip planes."""

    name: str
    pose: Pose
    fovy_deg: float
    near_m: float
    far_m: float


@dataclass(frozen=True)
class Link:
    """A rigid body and what hangs on it.

    Attributes:
        name: of the body.
        pose: in the parent link's frame, with all joints at 0.
        joints: between the parent and this link, from the parent outwards; several share one origin.
        inertia: None for a body without mass.
        shapes: what is drawn and collides.
        cameras: mounted on it.
        weightless: its weight is compensated, as by springs.
        children: links that hang on it.
    """

    name: str
    pose: Pose
    joints: tuple[Joint, ...]
    inertia: Inertia | None
    shapes: tuple[Shape, ...]
    cameras: tuple[Camera, ...]
    weightless: bool
    children: tuple[Link, ...]

    def all_links(self) -> tuple[Link, ...]:
        """This link and all below it, parents first."""
        return (self, *(link for child in self.children for link in child.all_links()))

    def all_joints(self) -> tuple[Joint, ...]:
        """The joints of this link and of all below it, parents first."""
        return tuple(joint for link in self.all_links() for joint in link.joints)


def read_link(mj: Any, model: Any, body: int) -> Link:
    """A body with everything below it, as it is with all joints at 0.

    Args:
        mj: the `mujoco` module.
        model: mujoco.MjModel.
        body: id of the body.

    Raises:
        SimulationError: the model has something that no writer here can express.
    """
    children = [b for b in range(1, model.nbody) if int(model.body_parentid[b]) == body]
    geoms = [g for g in range(model.ngeom) if int(model.geom_bodyid[g]) == body and is_shown(model, g)]
    cameras = [c for c in range(model.ncam) if int(model.cam_bodyid[c]) == body]
    first = int(model.body_jntadr[body])
    joints = list(range(first, first + int(model.body_jntnum[body])))
    return Link(
        name=str(model.body(body).name),
        pose=Pose.of(model.body_pos[body], model.body_quat[body]),
        joints=tuple(_joint(mj, model, j) for j in joints if int(model.jnt_type[j]) != int(mj.mjtJoint.mjJNT_FREE)),
        inertia=read_inertia(mj, model, body),
        shapes=tuple(
            read_shape(mj, model, g, Pose.of(model.geom_pos[g], model.geom_quat[g]), f"{model.body(body).name}_{i}")
            for i, g in enumerate(geoms)
        ),
        cameras=tuple(_camera(mj, model, c) for c in cameras),
        weightless=float(model.body_gravcomp[body]) == 1.0,
        children=tuple(read_link(mj, model, child) for child in children),
    )


def bare_inertias(mj: Any) -> dict[str, float]:
    """What each joint of the robot moves, at home, without its motor's armature and with all other joints free.

    Args:
        mj: the `mujoco` module.

    Returns:
        Joint -> kg m^2 (hinge) or kg (slide).
    """
    model = mj.MjModel.from_xml_string(robot_mjcf())
    model.dof_armature[:] = 0.0
    data = mj.MjData(model)
    for joint, value in HOME_RAD.items():
        data.joint(joint).qpos[0] = value
    mj.mj_forward(model, data)
    inverse = np.zeros((model.nv, model.nv))
    mj.mj_solveM(model, data, inverse, np.eye(model.nv))
    dofs = {str(model.joint(j).name): int(model.jnt_dofadr[j]) for j in range(model.njnt)}
    return {joint: float(1.0 / inverse[dof, dof]) for joint, dof in dofs.items()}


def is_shown(model: Any, geom: int) -> bool:
    """Whether a geom is part of the scene that was applied."""
    return int(model.geom_group[geom]) != HIDDEN_GROUP


def read_inertia(mj: Any, model: Any, body: int) -> Inertia | None:
    """Mass and inertia of a body in its own frame; None where it has no mass."""
    mass = float(model.body_mass[body])
    if mass <= 0:
        return None
    turn = Pose.of((0, 0, 0), model.body_iquat[body]).rotation
    tensor = turn @ np.diag(model.body_inertia[body]) @ turn.T
    return Inertia(mass, np.array(model.body_ipos[body]), tensor)


def read_shape(mj: Any, model: Any, geom: int, pose: Pose, name: str) -> Shape:
    """A geom as a shape; `pose` is its pose in the link's frame, `name` that of a geom which has none."""
    kinds = mj.mjtGeom
    size = [float(value) for value in model.geom_size[geom]]
    written: dict[int, tuple[str, tuple[float, ...]]] = {
        int(kinds.mjGEOM_BOX): (BOX, tuple(2 * edge for edge in size)),
        int(kinds.mjGEOM_SPHERE): (SPHERE, (size[0],)),
        int(kinds.mjGEOM_CYLINDER): (CYLINDER, (size[0], 2 * size[1])),
        int(kinds.mjGEOM_CAPSULE): (CAPSULE, (size[0], 2 * size[1])),
        int(kinds.mjGEOM_ELLIPSOID): (ELLIPSOID, tuple(size)),
        int(kinds.mjGEOM_PLANE): (PLANE, (2 * size[0], 2 * size[1])),
        int(kinds.mjGEOM_MESH): (MESH, ()),
    }
    kind = int(model.geom_type[geom])
    name = str(model.geom(geom).name) or name
    if kind not in written:
        raise SimulationError(f"geom '{name}' is of MuJoCo's type {kind}; there is no such shape in SDF and URDF")
    mesh = ""
    if written[kind][0] == MESH:
        index = int(model.geom_dataid[geom])
        mesh = str(model.mesh(index).name)
        # MuJoCo moves a mesh into its principal axes when it compiles; files hold it as it was drawn.
        pose = pose @ Pose.of(model.mesh_pos[index], model.mesh_quat[index]).inverse()
    solid = bool(model.geom_contype[geom] or model.geom_conaffinity[geom])
    return Shape(name, *written[kind], pose, _colour(mj, model, geom), solid, float(model.geom_friction[geom][0]), mesh)


def _colour(mj: Any, model: Any, geom: int) -> tuple[float, float, float, float]:
    own, material = np.array(model.geom_rgba[geom], np.float64), int(model.geom_matid[geom])
    if material < 0:
        return _rgba(own)
    colour = np.array(model.mat_rgba[material], np.float64) if np.allclose(own, _DEFAULT_RGBA) else own
    texture = int(model.mat_texid[material][int(mj.mjtTextureRole.mjTEXROLE_RGB)])
    if texture >= 0:
        start, channels = int(model.tex_adr[texture]), int(model.tex_nchannel[texture])
        count = int(model.tex_width[texture]) * int(model.tex_height[texture]) * channels
        pixels = np.asarray(model.tex_data[start : start + count]).reshape(-1, channels)[:, :3]
        colour = colour * np.append(pixels.mean(axis=0) / 255.0, 1.0)
    return _rgba(colour)


def _rgba(values: ArrayLike) -> tuple[float, float, float, float]:
    red, green, blue, alpha = (float(value) for value in np.asarray(values))
    return red, green, blue, alpha


def _joint(mj: Any, model: Any, joint: int) -> Joint:
    name = str(model.joint(joint).name)
    kind, dof = int(model.jnt_type[joint]), int(model.jnt_dofadr[joint])
    if kind not in (int(mj.mjtJoint.mjJNT_HINGE), int(mj.mjtJoint.mjJNT_SLIDE)) or not model.jnt_limited[joint]:
        raise SimulationError(f"joint '{name}' is no hinge or slide with limits; there is no such joint in URDF")
    if np.any(model.jnt_pos[joint]):
        raise SimulationError(f"joint '{name}' lies off its body's origin; in URDF a joint is its link's origin")
    motor = model.actuator(name).id
    axis = [float(value) for value in model.jnt_axis[joint]]
    return Joint(
        name=name,
        prismatic=kind == int(mj.mjtJoint.mjJNT_SLIDE),
        axis=(axis[0], axis[1], axis[2]),
        lower=float(model.jnt_range[joint][0]),
        upper=float(model.jnt_range[joint][1]),
        effort=float(model.actuator_forcerange[motor][1]),
        damping=float(model.dof_damping[dof]),
        friction=float(model.dof_frictionloss[dof]),
        p_gain=float(model.actuator_gainprm[motor][0]),
        d_gain=abs(float(model.actuator_biasprm[motor][2])),
        home=HOME_RAD.get(name, 0.0),
    )


def _camera(mj: Any, model: Any, camera: int) -> Camera:
    """MuJoCo's cameras look along -z with y up; here x is ahead and z up."""
    axes = Pose.of((0, 0, 0), model.cam_quat[camera]).rotation
    turned = np.stack([-axes[:, 2], -axes[:, 0], axes[:, 1]], axis=1)
    extent = float(model.stat.extent)
    return Camera(
        name=str(model.camera(camera).name),
        pose=Pose(np.array(model.cam_pos[camera]), turned),
        fovy_deg=float(model.cam_fovy[camera]),
        near_m=float(model.vis.map.znear) * extent,
        far_m=float(model.vis.map.zfar) * extent,
    )
