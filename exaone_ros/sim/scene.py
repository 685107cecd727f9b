"""What stands where on the table, under which light, seen by which camera: a value, without MuJoCo.

World frame: metres, origin between the robot's feet, x ahead, y to its left, z up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from exaone_ros.errors import SimulationError
from exaone_ros.sim.camera import Intrinsics, View
from exaone_ros.sim.humanoid import head_camera_pose
from exaone_ros.sim.vocabulary import COLOURS, SHAPES

TABLE_TOP_M = 0.80
TABLE_X_M = (0.30, 0.98)
TABLE_Y_M = (-0.60, 0.60)

MUG_SIZES_M: tuple[tuple[float, float], ...] = ((0.038, 0.090), (0.040, 0.095), (0.042, 0.100))
"""(radius, height) of the mugs there are: a mug is a mesh, it cannot be scaled freely."""

LARGEST_M: dict[str, tuple[float, float]] = {
    "cube": (0.040, 0.080),
    "ball": (0.042, 0.084),
    "cylinder": (0.038, 0.140),
    "mug": (0.042, 0.100),
}
"""Largest (radius or half edge, height) of each shape that the simulator holds."""

CARTON, CRATE = "carton", "crate"
OBSTACLE_KINDS = (CARTON, CRATE)

Rgb = tuple[float, float, float]
"""sRGB, 0..1."""


@dataclass(frozen=True)
class TableObject:
    """An object that stands upright on the table.

    Attributes:
        shape: one of vocabulary.SHAPES.
        colour: one of vocabulary.COLOURS.
        x_m, y_m: of its centre in the world frame.
        yaw_rad: about the vertical; a mug's handle points along it.
        radius_m: half the edge of a cube, radius of the others.
        height_m: of the whole object.
        rgb: the colour as painted: the nominal one with its jitter.
    """

    shape: str
    colour: str
    x_m: float
    y_m: float
    yaw_rad: float
    radius_m: float
    height_m: float
    rgb: Rgb

    def __post_init__(self) -> None:
        if self.shape not in SHAPES or self.colour not in COLOURS:
            raise SimulationError(
                f"object is a {self.colour!r} {self.shape!r}; expected a colour of {COLOURS} and a shape of {SHAPES}"
            )
        if not all(map(math.isfinite, (self.x_m, self.y_m, self.yaw_rad, *self.rgb))):
            raise SimulationError(f"place or colour of the {self.colour} {self.shape} is not finite: {self}")
        radius, height = LARGEST_M[self.shape]
        if not (0.01 <= self.radius_m <= radius and 0.02 <= self.height_m <= height):
            raise SimulationError(
                f"the {self.colour} {self.shape} has radius {self.radius_m} m and height {self.height_m} m; expected "
                f"0.01 to {radius} m and 0.02 to {height} m"
            )

    @property
    def centre_m(self) -> tuple[float, float, float]:
        return self.x_m, self.y_m, TABLE_TOP_M + self.height_m / 2

    @property
    def footprint_m(self) -> float:
        """Radius of a circle about the centre that holds the whole object."""
        return self.radius_m * {"cube": 1.4143, "mug": 1.85}.get(self.shape, 1.0)


def names_of(objects: Sequence[TableObject]) -> tuple[str, ...]:
    """A name for each object that no other has, in their order: ``red_cube``, ``blue_mug``, ``red_cube_2``."""
    names: list[str] = []
    for thing in objects:
        base = f"{thing.colour}_{thing.shape}"
        earlier = sum(name == base or name.startswith(f"{base}_") for name in names)
        names.append(f"{base}_{earlier + 1}" if earlier else base)
    return tuple(names)


@dataclass(frozen=True)
class Person:
    """A person standing on the floor.

    Attributes:
        x_m, y_m: between the feet.
        yaw_rad: where the person looks, 0 = along world x.
        raise_m: how much taller (or shorter) than 1.75 m.
        arms_rad: forward swing of left upper arm, left elbow, right upper arm, right elbow.
        shirt, trousers, skin, hair: colours.
    """

    x_m: float
    y_m: float
    yaw_rad: float
    raise_m: float
    arms_rad: tuple[float, float, float, float]
    shirt: Rgb
    trousers: Rgb
    skin: Rgb
    hair: Rgb


@dataclass(frozen=True)
class Obstacle:
    """A box that stands in the way, on the table between the robot and the objects.

    Attributes:
        kind: "carton" (cardboard with tape) or "crate" (wooden slats).
        x_m, y_m: of its centre.
        yaw_rad: about the vertical.
        size_m: full edges along its own x, y and z.
        rgb: of cardboard or wood.
    """

    kind: str
    x_m: float
    y_m: float
    yaw_rad: float
    size_m: tuple[float, float, float]
    rgb: Rgb


@dataclass(frozen=True)
class Light:
    """Attributes: direction that the key light comes from (azimuth, elevation in radians); strengths 0..1 of key, fill
    and ambient light; tint of the key light. Key and fill of 0 leave a scene under ambient light alone."""

    azimuth_rad: float
    elevation_rad: float
    key: float
    fill: float
    ambient: float
    tint: Rgb = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class HeadCamera:
    """Attributes: pan (positive left) and tilt (positive down) of the head; vertical field of view; displacement of the
    robot's body from its place."""

    pan_rad: float = 0.0
    tilt_rad: float = 0.72
    fovy_deg: float = 48.0
    sway_m: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def view(self, width: int, height: int) -> View:
        """The camera's place and projection for an image of this size in pixels."""
        position, rotation = head_camera_pose(self.pan_rad, self.tilt_rad, self.sway_m)
        return View(Intrinsics(width, height, self.fovy_deg), position, rotation)


@dataclass(frozen=True)
class Surroundings:
    """Attributes: name of the table's texture (see textures.TABLES) and its tint; of the floor's (textures.FLOORS) and
    its tint; colour of the wall."""

    table: str
    table_tint: Rgb
    floor: str
    floor_tint: Rgb
    wall: Rgb


@dataclass(frozen=True)
class Scene:
    """Everything that decides what the camera sees."""

    objects: tuple[TableObject, ...]
    person: Person | None
    obstacle: Obstacle | None
    light: Light
    camera: HeadCamera
    surroundings: Surroundings
