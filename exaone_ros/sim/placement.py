"""Whether things can stand where a scene puts them: on the table, and not inside each other. No MuJoCo.

Seen from above a ball or a cylinder is a circle, a cube or an obstacle a rectangle, a mug two circles: wall and handle.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exaone_ros.errors import SimulationError
from exaone_ros.sim.meshes import HANDLE_RADIUS_M, HANDLE_REACH_M
from exaone_ros.sim.scene import TABLE_X_M, TABLE_Y_M, Obstacle, Person, Scene, TableObject, names_of

Points = NDArray[np.float64]
"""Points on the table, [n, 2] in metres."""
TOUCHING_M = 1e-4
"""Things that overlap by less than this merely touch."""
PERSON_RADIUS_M = 0.15
"""A person is a circle of this radius to the table."""


@dataclass(frozen=True)
class Footprint:
    """A rectangle with rounded corners: a circle where both half edges are 0.

    Attributes:
        x_m, y_m: of its centre.
        yaw_rad: about the vertical.
        half_m: half edges along its own x and y.
        radius_m: by which the rectangle is grown.
    """

    x_m: float
    y_m: float
    yaw_rad: float = 0.0
    half_m: tuple[float, float] = (0.0, 0.0)
    radius_m: float = 0.0

    def corners(self) -> Points:
        """Corners of the rectangle, float64 [4, 2], in their order around it."""
        c, s = math.cos(self.yaw_rad), math.sin(self.yaw_rad)
        a, b = self.half_m
        local = np.array([(a, b), (-a, b), (-a, -b), (a, -b)])
        return np.asarray(local @ np.array([[c, s], [-s, c]]) + (self.x_m, self.y_m))

    def distance_m(self, other: Footprint) -> float:
        """Gap between two footprints; negative where they overlap: then how far to move one of them at least."""
        mine, theirs = self.corners(), other.corners()
        # Two rectangles are apart where an edge's normal separates them; where none does, the widest tells the overlap.
        apart = max(_gap_along(axis, mine, theirs) for axis in (*self._axes(), *other._axes()))
        if apart > 0:
            apart = min(_corner_gap(mine, theirs), _corner_gap(theirs, mine))
        return apart - self.radius_m - other.radius_m

    def _axes(self) -> tuple[Points, Points]:
        c, s = math.cos(self.yaw_rad), math.sin(self.yaw_rad)
        return np.array([c, s]), np.array([-s, c])


def _gap_along(axis: Points, a: Points, b: Points) -> float:
    """Gap between the shadows of two sets of points on an axis; negative where they overlap."""
    on_a, on_b = a @ axis, b @ axis
    return float(max(on_a.min() - on_b.max(), on_b.min() - on_a.max()))


def _corner_gap(corners: Points, around: Points) -> float:
    """Least distance from corners of one rectangle to edges of the other."""
    starts, along = around, np.roll(around, -1, axis=0) - around
    length = np.maximum((along**2).sum(axis=1), 1e-18)
    share = ((corners[:, None] - starts) * along).sum(axis=2) / length
    nearest = starts + np.clip(share, 0.0, 1.0)[..., None] * along
    return float(np.linalg.norm(corners[:, None] - nearest, axis=2).min())


def footprints(thing: TableObject | Obstacle) -> tuple[Footprint, ...]:
    """What a thing covers, seen from above."""
    x, y, yaw = thing.x_m, thing.y_m, thing.yaw_rad
    if isinstance(thing, Obstacle):
        return (Footprint(x, y, yaw, (thing.size_m[0] / 2, thing.size_m[1] / 2)),)
    if thing.shape == "cube":
        return (Footprint(x, y, yaw, (thing.radius_m, thing.radius_m)),)
    body = Footprint(x, y, radius_m=thing.radius_m)
    if thing.shape != "mug":
        return (body,)
    reach = thing.radius_m + HANDLE_REACH_M / 2
    handle = Footprint(
        x + reach * math.cos(yaw),
        y + reach * math.sin(yaw),
        yaw,
        (HANDLE_REACH_M / 2, 0.0),
        HANDLE_RADIUS_M,
    )
    return body, handle


def check_placement(scene: Scene) -> None:
    """Refuse a scene in which something stands inside something else, or on nothing.

    Raises:
        SimulationError: names both things, where they are and by how much they overlap, or what is not on the table.
    """
    standing = list(_standing(scene))
    for what, thing in standing:
        inside = TABLE_X_M[0] <= thing.x_m <= TABLE_X_M[1] and TABLE_Y_M[0] <= thing.y_m <= TABLE_Y_M[1]
        if not inside:
            raise SimulationError(
                f"the {what} stands at x {thing.x_m:g}, y {thing.y_m:g} m; expected a place on the table: "
                f"x {TABLE_X_M[0]:g} to {TABLE_X_M[1]:g}, y {TABLE_Y_M[0]:g} to {TABLE_Y_M[1]:g} m"
            )
    for (what, thing), (other_what, other) in itertools.combinations(standing, 2):
        gap = min(a.distance_m(b) for a in footprints(thing) for b in footprints(other))
        if gap < -TOUCHING_M:
            raise SimulationError(
                f"the {what} at ({thing.x_m:g}, {thing.y_m:g}) m stands inside the {other_what} at "
                f"({other.x_m:g}, {other.y_m:g}) m; move one of them"
            )
    if scene.person is not None:
        _check_person(scene.person)


def _standing(scene: Scene) -> Iterator[tuple[str, TableObject | Obstacle]]:
    yield from zip(names_of(scene.objects), scene.objects, strict=True)
    if scene.obstacle is not None:
        yield "obstacle", scene.obstacle


def _check_person(person: Person) -> None:
    table = Footprint(
        sum(TABLE_X_M) / 2,
        sum(TABLE_Y_M) / 2,
        half_m=((TABLE_X_M[1] - TABLE_X_M[0]) / 2, (TABLE_Y_M[1] - TABLE_Y_M[0]) / 2),
    )
    body = Footprint(person.x_m, person.y_m, radius_m=PERSON_RADIUS_M)
    if body.distance_m(table) < -TOUCHING_M:
        raise SimulationError(
            f"the person stands inside the table at ({person.x_m:g}, {person.y_m:g}) m; "
            f"expected {PERSON_RADIUS_M:g} m or more from its edge"
        )
    if body.distance_m(Footprint(0.0, 0.0, radius_m=0.25)) < -TOUCHING_M:
        raise SimulationError(
            f"the person stands inside the robot at ({person.x_m:g}, {person.y_m:g}) m; the robot stands at (0, 0)"
        )
