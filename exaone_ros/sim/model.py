"""One compiled MuJoCo model for every scene: `apply` moves, resizes and repaints its pool. No GL here."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exaone_ros.errors import SimulationError
from exaone_ros.sim import textures
from exaone_ros.sim.gl import require_mujoco
from exaone_ros.sim.humanoid import CAMERA_NAME, HOME_RAD, PELVIS_HEIGHT_M
from exaone_ros.sim.mjcf import HIDDEN_GROUP, OBSTACLE_BOUND_M, POOL_SIZE, world_mjcf, yaw_quaternion
from exaone_ros.sim.scene import (
    CARTON,
    MUG_SIZES_M,
    OBSTACLE_KINDS,
    TABLE_TOP_M,
    Light,
    Obstacle,
    Person,
    Rgb,
    Scene,
    Surroundings,
    TableObject,
)

PERSON_LABEL, OBSTACLE_LABEL = POOL_SIZE, POOL_SIZE + 1
"""Labels of geoms: 0..POOL_SIZE - 1 are the objects of the scene in their order, -1 is everything else."""

_OUT_OF_SIGHT_M = -10.0
_NEAR_M = 0.01
_BLACK_MUG_INSIDE: Rgb = (0.30, 0.30, 0.31)


class TabletopModel:
    """A compiled model and its state; one thread at a time uses it.

    Attributes:
        mj: the `mujoco` module.
        model: mujoco.MjModel.
        data: mujoco.MjData; after `apply` its positions are those of the scene.
        geom_labels: int8 [ngeom], see PERSON_LABEL.
    """

    def __init__(self, *, free: bool = False, samples: int = 4, max_side_px: int = 1920) -> None:
        self.mj = require_mujoco()
        self.model = self.mj.MjModel.from_xml_string(world_mjcf(free=free, samples=samples, max_side_px=max_side_px))
        self.data = self.mj.MjData(self.model)
        self.camera_id = int(self.model.camera(CAMERA_NAME).id)
        self._free = free
        self._geom = {self.model.geom(i).name: i for i in range(self.model.ngeom) if self.model.geom(i).name}
        self._body = {self.model.body(i).name: i for i in range(self.model.nbody)}
        self._materials = {self.model.mat(i).name: i for i in range(self.model.nmat)}
        self._object_geoms = [
            [i for n, i in self._geom.items() if n.startswith(f"object_{k}_")] for k in range(POOL_SIZE)
        ]
        self._person_geoms = [i for n, i in self._geom.items() if n.startswith("person_")]
        self._obstacle_geoms = [i for n, i in self._geom.items() if n.startswith(("carton_", "crate_"))]
        self.geom_labels = np.full(self.model.ngeom, -1, np.int8)
        for label, geoms in enumerate([*self._object_geoms, self._person_geoms, self._obstacle_geoms]):
            self.geom_labels[geoms] = label
        solid = [self._body[n] for n in (*(f"object_{k}" for k in range(POOL_SIZE)), *OBSTACLE_KINDS)]
        self.model.body_contype[solid] = self.model.body_conaffinity[solid] = 1  # compiled from geoms that are hidden
        self._upload_textures()
        self._forbid_needless_shadows()

    def _upload_textures(self) -> None:
        images = {f"table_{n}": make for n, make in textures.TABLES.items()}
        images |= {f"floor_{n}": make for n, make in textures.FLOORS.items()}
        images[textures.CARDBOARD] = textures.cardboard
        for name, make in images.items():
            texture = self.model.texture(name).id
            start = int(self.model.tex_adr[texture])
            faces = int(self.model.tex_height[texture]) // textures.SIZE  # six for a cube texture
            pixels = np.tile(make().ravel(), faces)
            self.model.tex_data[start : start + pixels.size] = pixels

    def _forbid_needless_shadows(self) -> None:
        """What cannot throw a shadow onto the table need not be drawn into the shadow map (MuJoCo >= 4)."""
        if hasattr(self.model, "geom_castshadow"):
            keep = [g for geoms in (*self._object_geoms, self._person_geoms, self._obstacle_geoms) for g in geoms]
            self.model.geom_castshadow[:] = 0
            self.model.geom_castshadow[keep] = 1

    def apply(self, scene: Scene) -> None:
        """Set the model and its state to `scene`, at rest; the robot is at home.

        Raises:
            SimulationError: the scene holds more objects than the pool, or a mug of a size that does not exist.
        """
        if len(scene.objects) > POOL_SIZE:
            raise SimulationError(
                f"the scene has {len(scene.objects)} objects; the simulator holds at most {POOL_SIZE}"
            )
        mj, model, data = self.mj, self.model, self.data
        mj.mj_resetData(model, data)
        for joint, value in HOME_RAD.items():
            data.joint(joint).qpos[0] = value
            data.actuator(joint).ctrl[0] = value
        for index in range(POOL_SIZE):
            self._place_object(index, scene.objects[index] if index < len(scene.objects) else None)
        self._place_person(scene.person)
        self._place_obstacle(scene.obstacle)
        self._set_light(scene.light)
        self._set_surroundings(scene.surroundings)
        for joint, value in (("head_pan", scene.camera.pan_rad), ("head_tilt", scene.camera.tilt_rad)):
            data.joint(joint).qpos[0] = value
            data.actuator(joint).ctrl[0] = value
        model.cam_fovy[self.camera_id] = scene.camera.fovy_deg
        pelvis = np.array([0.0, 0.0, PELVIS_HEIGHT_M]) + scene.camera.sway_m
        if self._free:
            data.joint("root").qpos[:3] = pelvis
        else:
            model.body_pos[self._body["pelvis"]] = pelvis
        self.refresh()

    def refresh(self) -> None:
        """Bring poses of geoms, camera and lights up to date with the joint positions."""
        self.mj.mj_kinematics(self.model, self.data)
        self.mj.mj_comPos(self.model, self.data)
        self.mj.mj_camlight(self.model, self.data)

    def camera_pose(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(position [3], rotation [3, 3] world to optical frame) of the head camera as it is now."""
        axes = np.array(self.data.cam_xmat[self.camera_id]).reshape(3, 3)  # columns: right, up, back
        return np.array(self.data.cam_xpos[self.camera_id]), (axes * (1.0, -1.0, -1.0)).T

    def object_pose(self, index: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(position [3], rotation [3, 3] object to world) of an object of the scene as it is now."""
        body = self._body[f"object_{index}"]
        return np.array(self.data.xpos[body]), np.array(self.data.xmat[body]).reshape(3, 3)

    def object_joint(self, index: int) -> tuple[slice, slice]:
        """Where an object of the scene stands in (qpos, qvel): position and quaternion (w, x, y, z); velocities."""
        joint = self.model.joint(f"object_{index}")
        qpos, qvel = int(joint.qposadr[0]), int(joint.dofadr[0])
        return slice(qpos, qpos + 7), slice(qvel, qvel + 6)

    def inside(self, label: int) -> str | int | None:
        """What one thing of the scene is inside of or touches, whether the physics makes it collide or not.

        Args:
            label: as in `geom_labels`: index of an object, PERSON_LABEL or OBSTACLE_LABEL.

        Returns:
            The label of another thing of the scene, or the name of a body of robot or table; None: of nothing.
        """
        model, data = self.model, self.data
        visible = np.flatnonzero(model.geom_group != HIDDEN_GROUP)
        mine = [geom for geom in visible if self.geom_labels[geom] == label]
        # Objects and obstacle stand on the table; its top is the one thing that they touch.
        ground = {self._geom[n] for n in ("floor", "wall")}
        ground |= set() if label == PERSON_LABEL else {self._geom["table_top"]}
        for other in visible:
            if self.geom_labels[other] == label or int(other) in ground:
                continue
            for geom in mine:
                apart = np.linalg.norm(data.geom_xpos[geom] - data.geom_xpos[other])
                if apart > model.geom_rbound[other] + model.geom_rbound[geom]:
                    continue
                # A thin body that another one pierces has a distance of 0, not a negative one.
                if self.mj.mj_geomDistance(model, data, int(geom), int(other), _NEAR_M, None) <= 1e-9:
                    found = int(self.geom_labels[other])
                    return found if found >= 0 else str(model.body(int(model.geom_bodyid[other])).name)
        return None

    def _show(self, geom: int, *, solid: bool = True) -> None:
        self.model.geom_group[geom] = 0
        self.model.geom_contype[geom] = self.model.geom_conaffinity[geom] = int(solid)

    def _hide(self, geoms: list[int]) -> None:
        self.model.geom_group[geoms] = HIDDEN_GROUP
        self.model.geom_contype[geoms] = 0
        self.model.geom_conaffinity[geoms] = 0

    def _resize(
        self, geom: int, size: tuple[float, float, float], pos: tuple[float, float, float] | None = None
    ) -> None:
        """Set a primitive's size, and the bounds that collision and culling take from it."""
        model, kind = self.model, int(self.model.geom_type[geom])
        model.geom_size[geom] = size
        if kind == int(self.mj.mjtGeom.mjGEOM_SPHERE):
            half = (size[0],) * 3
            model.geom_rbound[geom] = size[0]
        elif kind == int(self.mj.mjtGeom.mjGEOM_CYLINDER):
            half = (size[0], size[0], size[1])
            model.geom_rbound[geom] = math.hypot(size[0], size[1])
        else:
            half = size
            model.geom_rbound[geom] = math.sqrt(sum(s * s for s in size))
        model.geom_aabb[geom] = (0.0, 0.0, 0.0, *half)
        if pos is not None:
            model.geom_pos[geom] = pos
            model.geom_sameframe[geom] = 0  # compiled at its body's origin, where MuJoCo would not look at geom_pos

    def _place_object(self, index: int, thing: TableObject | None) -> None:
        model, body = self.model, self._body[f"object_{index}"]
        self._hide(self._object_geoms[index])
        model.body_gravcomp[body] = float(thing is None)
        if thing is None:
            return  # stays at its parking place below the floor
        self.data.joint(f"object_{index}").qpos[:] = (*thing.centre_m, *yaw_quaternion(thing.yaw_rad))
        name = f"object_{index}_{thing.shape}"
        if thing.shape == "mug":
            size = (thing.radius_m, thing.height_m)
            if size not in MUG_SIZES_M:
                raise SimulationError(
                    f"a mug of (radius, height) {size} m does not exist; expected one of {MUG_SIZES_M}"
                )
            name += f"_{MUG_SIZES_M.index(size)}"
            inside = self._geom[f"{name}_inside"]
            dark = _BLACK_MUG_INSIDE if thing.colour == "black" else tuple(0.22 * c for c in thing.rgb)
            model.geom_rgba[inside] = (*dark, 1.0)
            self._show(inside, solid=False)
        else:
            radius, half = thing.radius_m, thing.height_m / 2
            self._resize(self._geom[name], (radius, half, radius) if thing.shape == "cylinder" else (radius,) * 3)
        geom = self._geom[name]
        model.geom_rgba[geom] = (*thing.rgb, 1.0)
        self._show(geom)

    def _place_person(self, person: Person | None) -> None:
        model = self.model
        mocap = int(model.body_mocapid[self._body["person"]])
        if person is None:
            self._hide(self._person_geoms)
            self.data.mocap_pos[mocap] = (0.0, 0.0, _OUT_OF_SIGHT_M)
            return
        self.data.mocap_pos[mocap] = (person.x_m, person.y_m, person.raise_m)
        self.data.mocap_quat[mocap] = yaw_quaternion(person.yaw_rad)
        parts = ("left_upper_arm", "left_forearm", "right_upper_arm", "right_forearm")
        for part, swing in zip(parts, person.arms_rad, strict=True):
            model.body_quat[self._body[f"person_{part}"]] = (math.cos(swing / 2), 0.0, -math.sin(swing / 2), 0.0)
        paint: dict[str, Rgb] = {"hair": person.hair, "shoe": (0.12, 0.11, 0.11)}
        paint |= dict.fromkeys(("belly", "chest", "shoulders", "sleeve"), person.shirt)
        paint |= dict.fromkeys(("hips", "thigh", "shin"), person.trousers)
        paint |= dict.fromkeys(("neck", "head", "hand", "wrist"), person.skin)
        for name, geom in self._geom.items():
            if name.startswith("person_"):
                model.geom_rgba[geom] = (*paint[name.rsplit("_", 1)[-1]], 1.0)
                self._show(geom, solid=False)

    def _place_obstacle(self, obstacle: Obstacle | None) -> None:
        model = self.model
        self._hide(self._obstacle_geoms)
        for kind in OBSTACLE_KINDS:
            self.data.mocap_pos[int(model.body_mocapid[self._body[kind]])] = (0.0, 0.0, _OUT_OF_SIGHT_M)
        if obstacle is None:
            return
        if obstacle.kind not in OBSTACLE_KINDS or not all(
            0.04 <= edge <= 2 * OBSTACLE_BOUND_M for edge in obstacle.size_m
        ):
            raise SimulationError(
                f"obstacle is a {obstacle.kind!r} of {obstacle.size_m} m; expected one of {OBSTACLE_KINDS} with "
                f"edges of 0.04 to {2 * OBSTACLE_BOUND_M} m"
            )
        mocap = int(model.body_mocapid[self._body[obstacle.kind]])
        x, y, z = (edge / 2 for edge in obstacle.size_m)
        self.data.mocap_pos[mocap] = (obstacle.x_m, obstacle.y_m, TABLE_TOP_M + z)
        self.data.mocap_quat[mocap] = yaw_quaternion(obstacle.yaw_rad)
        if obstacle.kind == CARTON:
            thin = 0.0008
            self._resize(self._geom["carton_box"], (x, y, z))
            self._resize(self._geom["carton_tape_top"], (x + thin, 0.02, thin), (0.0, 0.0, z))
            self._resize(self._geom["carton_tape_side"], (thin, 0.02, 0.35 * z), (-x, 0.0, 0.65 * z))
            self._resize(self._geom["carton_label"], (thin, 0.28 * y, 0.3 * z), (-x, 0.5 * y, -0.35 * z))
            model.geom_rgba[self._geom["carton_box"]] = (*obstacle.rgb, 1.0)
            names = ["carton_box", "carton_tape_top", "carton_tape_side", "carton_label"]
        else:
            slat, wood = 0.006, (*obstacle.rgb, 1.0)
            for i in range(12):
                side, level = divmod(i, 3)
                height = (level - 1) * 0.68 * z
                along_y = side < 2
                sign = 1 if side % 2 else -1
                size = (slat, y, 0.22 * z) if along_y else (x, slat, 0.22 * z)
                pos = (sign * (x - slat), 0.0, height) if along_y else (0.0, sign * (y - slat), height)
                self._resize(self._geom[f"crate_slat_{i}"], size, pos)
                model.geom_rgba[self._geom[f"crate_slat_{i}"]] = wood
            self._resize(self._geom["crate_inside"], (x - 0.014, y - 0.014, 0.94 * z))
            model.geom_rgba[self._geom["crate_inside"]] = (*(0.35 * c for c in obstacle.rgb), 1.0)
            names = [*(f"crate_slat_{i}" for i in range(12)), "crate_inside"]
        for name in names:
            self._show(self._geom[name])

    def _set_light(self, light: Light) -> None:
        model = self.model
        horizontal = math.cos(light.elevation_rad)
        towards = np.array(
            [
                horizontal * math.cos(light.azimuth_rad),
                horizontal * math.sin(light.azimuth_rad),
                math.sin(light.elevation_rad),
            ]
        )
        key, fill = model.light("key").id, model.light("fill").id
        model.light_pos[key] = np.array([0.6, 0.0, TABLE_TOP_M]) + 2.0 * towards
        model.light_dir[key] = -towards
        model.light_diffuse[key] = light.key * np.array(light.tint)
        model.light_specular[key] = 0.35 * light.key
        model.light_active[key] = light.key > 0
        model.light_diffuse[fill] = light.fill
        model.light_active[fill] = light.fill > 0
        model.vis.headlight.ambient[:] = light.ambient
        model.vis.headlight.diffuse[:] = 0.25 * light.ambient
        self.data.light_xpos[key] = model.light_pos[key]

    def _set_surroundings(self, surroundings: Surroundings) -> None:
        model = self.model
        for geom, kind, name, tint in (
            ("table_top", "table", surroundings.table, surroundings.table_tint),
            ("floor", "floor", surroundings.floor, surroundings.floor_tint),
        ):
            material = self._materials[f"{kind}_{name}"]
            model.geom_matid[self._geom[geom]] = material
            model.mat_rgba[material] = (*tint, 1.0)
        model.geom_rgba[self._geom["wall"]] = (*surroundings.wall, 1.0)

    def snapshot(self) -> NDArray[np.float64]:
        """Joint positions, to be drawn by another model of the same scene."""
        return np.array(self.data.qpos)

    def restore(self, qpos: NDArray[Any]) -> None:
        """Take over joint positions from `snapshot`."""
        self.data.qpos[:] = qpos
        self.refresh()
