"""The things of a scene by name: how they are placed, moved and removed. Values only, without MuJoCo.

Whether two bodies are inside each other is not decided here: `world.World` asks the physics.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

from exaone_ros.errors import SimulationError
from exaone_ros.sim.scene import (
    CARTON,
    TABLE_TOP_M,
    TABLE_X_M,
    TABLE_Y_M,
    Obstacle,
    Person,
    Scene,
    TableObject,
    names_of,
)
from exaone_ros.sim.vocabulary import COLOURS, OBSTACLE, PERSON, RGB, SHAPES, name, parse
from exaone_ros.sim.world_file import SIZES_M

MAX_OBJECTS = 10
PERSON_HEIGHT_M = 1.75
PERSON_SIZE_M = (0.30, 0.50)
"""Depth and width of the figure with its arms down; what a box around it is given as."""

_FLOOR_M = 3.4
"""The wall is a little further away."""
_HEIGHT_TOLERANCE_M = 0.02
_UPRIGHT = 1e-3


@dataclass(frozen=True)
class Place:
    """Where something stands upright, in the world frame.

    Attributes:
        x_m, y_m: of its centre.
        yaw_rad: about the vertical.
        z_m: 0, or the height of its centre when it stands; given only so that it can be checked.
    """

    x_m: float
    y_m: float
    yaw_rad: float = 0.0
    z_m: float = 0.0

    @classmethod
    def of_pose(cls, position: Sequence[float], quaternion: Sequence[float]) -> Place:
        """Read a pose: position [3] in metres, quaternion (x, y, z, w).

        Raises:
            SimulationError: not finite, no rotation, or not upright.
        """
        if not all(map(math.isfinite, (*position, *quaternion))):
            raise SimulationError(f"pose {tuple(position)}, {tuple(quaternion)} is not finite")
        x, y, z, w = quaternion
        norm = math.hypot(x, y, z, w)
        if abs(norm - 1) > 0.01:
            raise SimulationError(f"quaternion {tuple(quaternion)} has norm {norm:.3g}; expected 1")
        if math.hypot(x, y) > _UPRIGHT:
            raise SimulationError(f"quaternion {tuple(quaternion)} tilts; things stand upright: expected x = y = 0")
        return cls(position[0], position[1], 2 * math.atan2(z, w), position[2])

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (self.x_m, self.y_m, self.yaw_rad, self.z_m))):
            raise SimulationError(f"{self} is not finite")


@dataclass(frozen=True)
class Stage:
    """A scene whose things have names.

    Attributes:
        scene: what there is.
        names: of its objects, in their order. The person's and the obstacle's names are ``person`` and ``obstacle``.
    """

    scene: Scene
    names: tuple[str, ...]

    @classmethod
    def of(cls, scene: Scene) -> Stage:
        """Name the objects by what they are: ``red_cube``, and ``red_cube_2`` for another one."""
        return cls(scene, names_of(scene.objects))

    @property
    def all_names(self) -> tuple[str, ...]:
        """Names of everything there is."""
        others = ((PERSON, self.scene.person), (OBSTACLE, self.scene.obstacle))
        return (*self.names, *(label for label, thing in others if thing is not None))

    def placed(self, class_id: str, place: Place, wanted_name: str = "") -> tuple[Stage, str]:
        """Add something of nominal size and colour.

        Args:
            class_id: ``red cube`` and the like, ``person``, ``obstacle``.
            place: where.
            wanted_name: of an object; empty = ``red_cube``, with a number where that is taken.

        Returns:
            (the stage with it, its name).

        Raises:
            SimulationError: unknown class, name taken, no room left, off the table or the floor.
        """
        scene = self.scene
        if class_id in (PERSON, OBSTACLE):
            if wanted_name not in ("", class_id):
                raise SimulationError(f"name of the {class_id} is {wanted_name!r}; expected {class_id!r} or none")
            if class_id in self.all_names:
                raise SimulationError(f"there is a {class_id} already; move it, or remove it first")
            thing: Person | Obstacle = _PERSON if class_id == PERSON else _OBSTACLE
            return dataclasses.replace(self, scene=_with(scene, _put(thing, place))), class_id
        known = parse(class_id)
        if known is None or known[0] is None or known[1] is None:
            raise SimulationError(
                f"class_id is {class_id!r}; expected '{PERSON}', '{OBSTACLE}', or a colour of {', '.join(COLOURS)} "
                f"before a shape of {', '.join(SHAPES)}, e.g. 'red cube'"
            )
        shape, colour = known[0], known[1]
        if len(scene.objects) >= MAX_OBJECTS:
            raise SimulationError(f"there are {MAX_OBJECTS} objects already; remove one first")
        if wanted_name in self.all_names or wanted_name in (PERSON, OBSTACLE):
            raise SimulationError(f"the name {wanted_name!r} is taken; there are {_listed(self.all_names)}")
        new_name = wanted_name or _free_name(f"{colour}_{shape}", self.names)
        radius, height = SIZES_M[shape]
        thing_there = TableObject(shape, colour, place.x_m, place.y_m, place.yaw_rad, radius, height, RGB[colour])
        objects = (*scene.objects, _put_object(thing_there, place))
        return Stage(dataclasses.replace(scene, objects=objects), (*self.names, new_name)), new_name

    def moved(self, wanted: str, place: Place) -> Stage:
        """Put something somewhere else.

        Raises:
            SimulationError: there is nothing of that name; off the table or the floor.
        """
        scene = self.scene
        if wanted in self.names:
            index = self.names.index(wanted)
            objects = list(scene.objects)
            objects[index] = _put_object(objects[index], place)
            return dataclasses.replace(self, scene=dataclasses.replace(scene, objects=tuple(objects)))
        thing = self._other(wanted)
        return dataclasses.replace(self, scene=_with(scene, _put(thing, place)))

    def removed(self, wanted: str) -> Stage:
        """Take something away.

        Raises:
            SimulationError: there is nothing of that name.
        """
        if wanted in self.names:
            index = self.names.index(wanted)
            objects = self.scene.objects[:index] + self.scene.objects[index + 1 :]
            names = self.names[:index] + self.names[index + 1 :]
            return Stage(dataclasses.replace(self.scene, objects=objects), names)
        self._other(wanted)
        return dataclasses.replace(self, scene=dataclasses.replace(self.scene, **{wanted: None}))  # type: ignore[arg-type]

    def _other(self, wanted: str) -> Person | Obstacle:
        thing = {PERSON: self.scene.person, OBSTACLE: self.scene.obstacle}.get(wanted)
        if thing is None:
            raise SimulationError(f"there is nothing named {wanted!r}; there are {_listed(self.all_names)}")
        return thing


_PERSON = Person(
    x_m=0.0, y_m=0.0, yaw_rad=0.0, raise_m=0.0, arms_rad=(0.2, 0.6, 0.2, 0.6), shirt=(0.35, 0.42, 0.50),
    trousers=(0.18, 0.21, 0.30), skin=(0.78, 0.58, 0.44), hair=(0.10, 0.08, 0.07),
)  # fmt: skip
_OBSTACLE = Obstacle(CARTON, x_m=0.0, y_m=0.0, yaw_rad=0.0, size_m=(0.12, 0.20, 0.12), rgb=(0.68, 0.52, 0.35))


def _with(scene: Scene, thing: Person | Obstacle) -> Scene:
    if isinstance(thing, Person):
        return dataclasses.replace(scene, person=thing)
    return dataclasses.replace(scene, obstacle=thing)


def _put(thing: Person | Obstacle, place: Place) -> Person | Obstacle:
    if isinstance(thing, Person):
        if max(abs(place.x_m), abs(place.y_m)) > _FLOOR_M:
            raise SimulationError(
                f"place ({place.x_m:g}, {place.y_m:g}) m is off the floor; expected x and y within {_FLOOR_M} m"
            )
        _check_height(place, (PERSON_HEIGHT_M + thing.raise_m) / 2, PERSON)
    else:
        _check_on_table(place)
        _check_height(place, TABLE_TOP_M + thing.size_m[2] / 2, OBSTACLE)
    return dataclasses.replace(thing, x_m=place.x_m, y_m=place.y_m, yaw_rad=place.yaw_rad)


def _put_object(thing: TableObject, place: Place) -> TableObject:
    _check_on_table(place)
    _check_height(place, thing.centre_m[2], name(thing.shape, thing.colour))
    return dataclasses.replace(thing, x_m=place.x_m, y_m=place.y_m, yaw_rad=place.yaw_rad)


def _check_on_table(place: Place) -> None:
    (x1, x2), (y1, y2) = TABLE_X_M, TABLE_Y_M
    if not (x1 <= place.x_m <= x2 and y1 <= place.y_m <= y2):
        raise SimulationError(
            f"place ({place.x_m:g}, {place.y_m:g}) m is off the table; expected x of {x1} to {x2} and y of {y1} to {y2}"
        )


def _check_height(place: Place, standing_m: float, what: str) -> None:
    if place.z_m != 0 and abs(place.z_m - standing_m) > _HEIGHT_TOLERANCE_M:
        raise SimulationError(
            f"z is {place.z_m:g} m; the {what} stands with its centre at {standing_m:.3f} m: give that, or 0"
        )


def _free_name(label: str, taken: Sequence[str]) -> str:
    number, found = 1, label
    while found in taken:
        number += 1
        found = f"{label}_{number}"
    return found


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"
