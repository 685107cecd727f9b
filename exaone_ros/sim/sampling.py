"""Random scenes: objects that do not overlap, mostly in view, under light that keeps their colours nameable."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from exaone_ros.errors import SimulationError
from exaone_ros.sim import textures
from exaone_ros.sim.camera import View
from exaone_ros.sim.scene import (
    CARTON,
    MUG_SIZES_M,
    OBSTACLE_KINDS,
    TABLE_TOP_M,
    TABLE_X_M,
    HeadCamera,
    Light,
    Obstacle,
    Person,
    Rgb,
    Scene,
    Surroundings,
    TableObject,
)
from exaone_ros.sim.vocabulary import COLOURS, RGB, SHAPES, Pair, allowed_pairs

MAX_OBJECTS = 10
_OBJECTS_X_M = (0.40, 0.88)
_OBJECTS_Y_M = (-0.45, 0.45)
_GAP_M = 0.012
_MAX_HIDDEN = 0.45
"""Two boxes on the image share at most this part of the smaller one (a wish: a full table leaves no choice)."""
_TRIES = 60

_SHIRTS: tuple[Rgb, ...] = (
    (0.35, 0.42, 0.50), (0.55, 0.50, 0.44), (0.28, 0.30, 0.33),
    (0.62, 0.62, 0.60), (0.45, 0.28, 0.26), (0.30, 0.38, 0.32),
)  # fmt: skip
_TROUSERS: tuple[Rgb, ...] = ((0.18, 0.21, 0.30), (0.24, 0.23, 0.22), (0.42, 0.38, 0.32), (0.30, 0.32, 0.36))
_SKINS: tuple[Rgb, ...] = ((0.88, 0.70, 0.58), (0.78, 0.58, 0.44), (0.60, 0.42, 0.30), (0.42, 0.28, 0.20))
_HAIRS: tuple[Rgb, ...] = ((0.10, 0.08, 0.07), (0.25, 0.17, 0.11), (0.48, 0.37, 0.24), (0.55, 0.54, 0.53))
_CARDBOARDS: tuple[Rgb, ...] = ((0.68, 0.52, 0.35), (0.74, 0.59, 0.42), (0.60, 0.45, 0.30))
_WOODS: tuple[Rgb, ...] = ((0.62, 0.48, 0.32), (0.70, 0.56, 0.40), (0.48, 0.36, 0.24))
_WALLS: tuple[Rgb, ...] = ((0.78, 0.76, 0.72), (0.70, 0.73, 0.75), (0.62, 0.60, 0.57), (0.74, 0.69, 0.62))


@dataclass(frozen=True)
class SceneOptions:
    """What `sample_scene` may choose from.

    Attributes:
        objects: fewest and most objects, within 0 to 10.
        person_share, obstacle_share: probability 0..1 of each.
        ambient_share: probability 0..1 of ambient light alone.
        exclude_pairs: (colour, shape) pairs that never occur.
        include_pairs: if given, only these occur.
        fovy_deg: lowest and highest vertical field of view; (60, 60) fixes it.
        camera_jitter: scale of the jitter of pan, tilt and place of the camera; 0 = always straight.

    Raises:
        SimulationError: a value out of range, or no pair is left.
    """

    objects: tuple[int, int] = (0, MAX_OBJECTS)
    person_share: float = 0.25
    obstacle_share: float = 0.25
    ambient_share: float = 0.1
    exclude_pairs: frozenset[Pair] = frozenset()
    include_pairs: frozenset[Pair] | None = None
    fovy_deg: tuple[float, float] = (45.0, 50.0)
    camera_jitter: float = 1.0

    def __post_init__(self) -> None:
        low, high = self.objects
        if not 0 <= low <= high <= MAX_OBJECTS:
            raise SimulationError(f"objects is {self.objects}; expected (fewest, most) within 0 to {MAX_OBJECTS}")
        for name in ("person_share", "obstacle_share", "ambient_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise SimulationError(f"{name} is {getattr(self, name)!r}; expected 0 to 1")
        if not 20 <= self.fovy_deg[0] <= self.fovy_deg[1] <= 120:
            raise SimulationError(f"fovy_deg is {self.fovy_deg}; expected (lowest, highest) within 20 to 120 degrees")
        if not 0 <= self.camera_jitter <= 2:
            raise SimulationError(f"camera_jitter is {self.camera_jitter}; expected 0 to 2")
        for colour, shape in self.exclude_pairs | (self.include_pairs or frozenset()):
            if colour not in COLOURS or shape not in SHAPES:
                raise SimulationError(
                    f"the pair {(colour, shape)!r} is unknown; expected (colour of {COLOURS}, shape of {SHAPES})"
                )
        if high and not self.pairs():
            raise SimulationError(
                "include_pairs without exclude_pairs leaves no pair of colour and shape to choose from"
            )

    def pairs(self) -> tuple[Pair, ...]:
        """The pairs that may occur, in a fixed order."""
        return allowed_pairs(self.exclude_pairs, self.include_pairs)


def sample_scene(rng: np.random.Generator, options: SceneOptions | None = None, aspect: float = 4 / 3) -> Scene:
    """Draw a scene.

    Args:
        rng: source of everything random.
        options: what to choose from.
        aspect: width / height of the image that it is meant for: objects are placed where it sees them.
    """
    options = options or SceneOptions()
    camera = _camera(rng, options)
    view = camera.view(round(480 * aspect), 480)
    obstacle = _obstacle(rng) if rng.random() < options.obstacle_share else None
    person = _person(rng, view) if rng.random() < options.person_share else None
    count = int(rng.integers(options.objects[0], options.objects[1] + 1))
    return Scene(
        objects=_objects(rng, options.pairs(), count, view, obstacle),
        person=person,
        obstacle=obstacle,
        light=_light(rng, options),
        camera=camera,
        surroundings=_surroundings(rng),
    )


def _uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(rng.uniform(low, high))


def _pick(rng: np.random.Generator, choices: Sequence[Rgb], jitter: float = 0.03) -> Rgb:
    """One of the colours, with a little jitter."""
    colour = np.clip(np.array(choices[int(rng.integers(len(choices)))]) + rng.normal(0, jitter, 3), 0.02, 0.98)
    return float(colour[0]), float(colour[1]), float(colour[2])


def _camera(rng: np.random.Generator, options: SceneOptions) -> HeadCamera:
    scale = options.camera_jitter
    sway = rng.uniform(-1, 1, 3) * (0.03, 0.04, 0.03) * scale
    return HeadCamera(
        pan_rad=scale * _uniform(rng, -0.12, 0.12),
        tilt_rad=0.72 + scale * _uniform(rng, -0.11, 0.09),
        fovy_deg=_uniform(rng, *options.fovy_deg),
        sway_m=(float(sway[0]), float(sway[1]), float(sway[2])),
    )


def _light(rng: np.random.Generator, options: SceneOptions) -> Light:
    azimuth, elevation = _uniform(rng, -math.pi, math.pi), _uniform(rng, 0.75, 1.4)
    if rng.random() < options.ambient_share:
        return Light(azimuth, elevation, key=0.0, fill=0.0, ambient=_uniform(rng, 0.62, 0.8))
    ambient = _uniform(rng, 0.30, 0.46)
    key = _uniform(rng, 0.4, 0.62)
    warmth = _uniform(rng, -0.05, 0.05)
    return Light(azimuth, elevation, key, _uniform(rng, 0.05, 0.2), ambient, (1.0 + warmth, 1.0, 1.0 - warmth))


def _surroundings(rng: np.random.Generator) -> Surroundings:
    tables, floors = tuple(textures.TABLES), tuple(textures.FLOORS)
    return Surroundings(
        table=tables[int(rng.integers(len(tables)))],
        table_tint=_pick(rng, ((0.94, 0.94, 0.94),), 0.03),
        floor=floors[int(rng.integers(len(floors)))],
        floor_tint=_pick(rng, ((0.92, 0.92, 0.92),), 0.03),
        wall=_pick(rng, _WALLS),
    )


def _obstacle(rng: np.random.Generator) -> Obstacle:
    kind = OBSTACLE_KINDS[int(rng.integers(len(OBSTACLE_KINDS)))]
    size = (_uniform(rng, 0.09, 0.15), _uniform(rng, 0.15, 0.26), _uniform(rng, 0.09, 0.15))
    return Obstacle(
        kind=kind,
        x_m=_uniform(rng, 0.44, 0.54),
        y_m=_uniform(rng, -0.18, 0.18),
        yaw_rad=_uniform(rng, -0.35, 0.35),
        size_m=size,
        rgb=_pick(rng, _CARDBOARDS if kind == CARTON else _WOODS, 0.02),
    )


def _person(rng: np.random.Generator, view: View) -> Person:
    """A person behind the table or beside it, placed so that hips or chest are in view."""
    for _ in range(_TRIES):
        if rng.random() < 0.7:
            x, y = _uniform(rng, TABLE_X_M[1] + 0.18, TABLE_X_M[1] + 0.5), _uniform(rng, -0.45, 0.45)
        else:
            x, y = _uniform(rng, 0.75, 1.15), _uniform(rng, 0.78, 0.95) * float(rng.choice((-1.0, 1.0)))
        spots = np.array([(x, y, z) for z in (0.75, 0.9, 1.05, 1.2)])
        pixels, depth = view.project(spots)
        inside = (pixels > 0.02 * view.intrinsics.width) & (
            pixels < np.array([0.98 * view.intrinsics.width, view.intrinsics.height])
        )
        if np.count_nonzero(inside.all(axis=1) & (depth > 0)) >= 2:
            break
    else:
        x, y = TABLE_X_M[1] + 0.25, 0.0
    towards_robot = math.atan2(-y, -x)
    arms = (_uniform(rng, -0.2, 0.9), _uniform(rng, 0.1, 1.3), _uniform(rng, -0.2, 0.9), _uniform(rng, 0.1, 1.3))
    return Person(
        x_m=x,
        y_m=y,
        yaw_rad=towards_robot + _uniform(rng, -0.6, 0.6),
        raise_m=_uniform(rng, -0.14, 0.06),
        arms_rad=arms,
        shirt=_pick(rng, _SHIRTS),
        trousers=_pick(rng, _TROUSERS),
        skin=_pick(rng, _SKINS, 0.02),
        hair=_pick(rng, _HAIRS, 0.02),
    )


def jittered_rgb(rng: np.random.Generator, colour: str) -> Rgb:
    """The colour's nominal sRGB with a jitter that leaves its name in no doubt."""
    nominal = np.array(RGB[colour])
    jitter = rng.uniform(-0.03, 0.03, 3) * (0.5 if colour in ("white", "black") else 1.0)
    rgb = np.clip(nominal * rng.uniform(0.92, 1.06) + jitter, 0.03, 0.97)
    return float(rgb[0]), float(rgb[1]), float(rgb[2])


def _size(rng: np.random.Generator, shape: str) -> tuple[float, float]:
    """(radius or half edge, height) in metres."""
    if shape == "cube":
        half = _uniform(rng, 0.030, 0.0375)
        return half, 2 * half
    if shape == "ball":
        radius = _uniform(rng, 0.032, 0.040)
        return radius, 2 * radius
    if shape == "cylinder":
        return _uniform(rng, 0.030, 0.036), _uniform(rng, 0.10, 0.13)
    return MUG_SIZES_M[int(rng.integers(len(MUG_SIZES_M)))]


def _objects(
    rng: np.random.Generator, pairs: Sequence[Pair], count: int, view: View, obstacle: Obstacle | None
) -> tuple[TableObject, ...]:
    placed: list[TableObject] = []
    boxes: list[tuple[float, ...]] = []
    for _ in range(count):
        colour, shape = pairs[int(rng.integers(len(pairs)))]
        radius, height = _size(rng, shape)
        rgb, yaw = jittered_rgb(rng, colour), _uniform(rng, -math.pi, math.pi)
        fallback: tuple[TableObject, tuple[float, ...]] | None = None
        for _ in range(_TRIES):
            x, y = _uniform(rng, *_OBJECTS_X_M), _uniform(rng, *_OBJECTS_Y_M)
            thing = TableObject(shape, colour, x, y, yaw, radius, height, rgb)
            if not _fits(thing, placed, obstacle):
                continue
            box = _image_box(thing, view)
            if box is None:
                continue
            if fallback is None:
                fallback = thing, box
            if all(_hidden_share(box, other) <= _MAX_HIDDEN for other in boxes):
                fallback = thing, box
                break
        if fallback is not None:  # a full table takes fewer objects than asked for
            placed.append(fallback[0])
            boxes.append(fallback[1])
    return tuple(placed)


def _fits(thing: TableObject, placed: Sequence[TableObject], obstacle: Obstacle | None) -> bool:
    for other in placed:
        if math.hypot(thing.x_m - other.x_m, thing.y_m - other.y_m) < thing.footprint_m + other.footprint_m + _GAP_M:
            return False
    if obstacle is None:
        return True
    cos, sin = math.cos(obstacle.yaw_rad), math.sin(obstacle.yaw_rad)
    dx, dy = thing.x_m - obstacle.x_m, thing.y_m - obstacle.y_m
    along, across = abs(cos * dx + sin * dy) - obstacle.size_m[0] / 2, abs(cos * dy - sin * dx) - obstacle.size_m[1] / 2
    if math.hypot(max(along, 0.0), max(across, 0.0)) < thing.footprint_m + _GAP_M:
        return False
    return thing.x_m > obstacle.x_m  # it stands between the robot and the objects


def _image_box(thing: TableObject, view: View) -> tuple[float, ...] | None:
    """Rough box on the image; None where the object's centre or much of it is out of view."""
    half, z = thing.radius_m, (TABLE_TOP_M, TABLE_TOP_M + thing.height_m)
    corners = [(thing.x_m + sx * half, thing.y_m + sy * half, zz) for sx in (-1, 1) for sy in (-1, 1) for zz in z]
    pixels, _ = view.project([thing.centre_m, *corners])
    margin = 0.25 * (pixels[1:].max(axis=0) - pixels[1:].min(axis=0))
    size = (view.intrinsics.width, view.intrinsics.height)
    if (pixels[0] < margin).any() or (pixels[0] > size - margin).any():
        return None
    return (*pixels[1:].min(axis=0), *pixels[1:].max(axis=0))


def _hidden_share(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Intersection of two boxes over the smaller one."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / min((a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1]))
