"""A fast 2.5D renderer of tabletop frames with exact labels: volume and variety for training.

Shapes are drawn as shaded polygons from far to near over a table in perspective; labels come from the instance map. It
draws more kinds of light, surface, camera and clutter than the simulator, because the model will also be shown frames
of renderers that it never saw. numpy and OpenCV only; deterministic by seed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from exaone_ros.sim.frame import Box, LabelledFrame, SeenObject
from exaone_ros.sim.vocabulary import RGB, Pair, allowed_pairs
from exaone_ros.training.flat_canvas import Canvas, FlatCamera, Floats, surface_texture
from exaone_ros.training.flat_post import spoil
from exaone_ros.training.flat_shapes import Light, Solid, draw_person, draw_shadow, draw_solid

MAX_OBJECTS = 10
MOST_COVERED = 0.5
"""Of two objects' boxes, the part of the smaller one that the other may cover (they are placed again beyond it)."""
LEAST_SIDE_PX = 9
PERSON_ID, OBSTACLE_ID = 101, 102
TRIES = 40


@dataclass(frozen=True)
class FlatOptions:
    """What may be drawn.

    Attributes:
        objects: fewest and most objects.
        person_share, obstacle_share: probability 0..1 of each.
        exclude_pairs: (colour, shape) pairs that never occur.
        include_pairs: if given, only these occur.
    """

    objects: tuple[int, int] = (0, MAX_OBJECTS)
    person_share: float = 0.25
    obstacle_share: float = 0.25
    exclude_pairs: frozenset[Pair] = frozenset()
    include_pairs: frozenset[Pair] | None = None

    def pairs(self) -> tuple[Pair, ...]:
        """The pairs that may occur, in a fixed order."""
        return allowed_pairs(self.exclude_pairs, self.include_pairs)


def jittered_colour(rng: np.random.Generator, colour: str) -> Floats:
    """RGB 0..255 of a named colour, varied as far as its name stays beyond doubt."""
    rgb = np.array(RGB[colour])
    if colour in ("white", "black"):
        rgb = (
            rgb * rng.uniform(0.85, 1.08) + rng.normal(0, 0.012, 3) + (rng.uniform(0, 0.08) if colour == "black" else 0)
        )
        return np.asarray(np.clip(rgb, 0.01, 1) * 255)
    hsv = cv2.cvtColor(np.asarray([[rgb]], np.float32), cv2.COLOR_RGB2HSV)[0, 0]
    spread = {"red": 5.0, "orange": 4.0, "yellow": 4.0, "green": 14.0, "blue": 10.0, "purple": 10.0}[colour]
    hsv[0] = (hsv[0] + rng.uniform(-spread, spread)) % 360
    hsv[1] = np.clip(hsv[1] * rng.uniform(0.85, 1.12), 0, 1)
    hsv[2] = np.clip(hsv[2] * rng.uniform(0.8, 1.15), 0.25, 1)
    return np.asarray(cv2.cvtColor(hsv[None, None], cv2.COLOR_HSV2RGB)[0, 0] * 255, np.float64)


class FlatRenderer:
    """Renders frames of one size.

    Args:
        width, height: of the images in pixels.
    """

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height

    def render(self, seed: int, options: FlatOptions | None = None) -> LabelledFrame:
        """Render the scene that `seed` stands for: the same seed and options give the same frame."""
        options = options or FlatOptions()
        rng = np.random.default_rng([77, seed])
        light = Light.sample(rng)
        camera = FlatCamera.looking_down(
            self.width,
            self.height,
            rng.uniform(0.72, 1.3),
            rng.uniform(0.35, 0.75),
            rng.uniform(0.4, 1.05),
            rng.normal(0, 0.03),
        )
        has_person, has_obstacle = rng.random() < options.person_share, rng.random() < options.obstacle_share
        canvas, table = self._surroundings(rng, camera, light, has_person)
        obstacle = self._place_obstacle(rng, camera, table) if has_obstacle else None
        count = int(rng.integers(options.objects[0], options.objects[1] + 1))
        things = self._place(rng, camera, table, count, options.pairs(), obstacle)
        for thing in [*things, *([obstacle] if obstacle else [])]:
            draw_shadow(canvas, camera, light, thing)
        if rng.random() < 0.6:
            canvas.image = np.asarray(cv2.GaussianBlur(canvas.image, (0, 0), rng.uniform(0.4, 1.4)), np.float32)
        full = self._draw(canvas, camera, light, things, obstacle)
        image = spoil(rng, canvas.image)
        return self._label(image, canvas.instance, camera, things, full)

    def _surroundings(
        self, rng: np.random.Generator, camera: FlatCamera, light: Light, has_person: bool
    ) -> tuple[Canvas, Floats]:
        """Paint wall, floor, clutter, person and table; returns the table's corners on the plane, [4, 2] metres."""
        width, height = self.width, self.height
        tones = np.array(
            [[0.75, 0.73, 0.7], [0.45, 0.42, 0.4], [0.35, 0.37, 0.4], [0.62, 0.66, 0.68], [0.55, 0.47, 0.38]]
        )
        wall = np.clip(tones[rng.integers(len(tones))] * rng.uniform(0.5, 1.25) + rng.normal(0, 0.04, 3), 0.03, 1) * 255
        image = np.empty((height, width, 3), np.float32)
        image[:] = wall
        image *= np.linspace(rng.uniform(0.8, 1.15), rng.uniform(0.8, 1.15), height).astype(np.float32)[:, None, None]
        canvas = Canvas(image)
        floor_z = -rng.uniform(0.4, 0.9)
        self._carpet(
            rng, canvas, camera, np.array([(-9, 0.1), (9, 0.1), (9, 7), (-9, 7)]), floor_z, self._tone(rng), 2.0
        )
        for _ in range(int(rng.integers(0, 7)) if rng.random() < 0.5 else 0):
            self._clutter(rng, canvas)
        over_person = rng.random() < 0.6
        if has_person and over_person:
            draw_person(canvas, rng, light, PERSON_ID)
        if not has_person and rng.random() < 0.3:  # the table fills the view
            table = np.array([(-4.0, -2.0), (4.0, -2.0), (4.0, 6.0), (-4.0, 6.0)])
        else:
            side = np.sort(rng.uniform(0.25, 1.1, 2)) * (-1, 1)
            near, far = rng.uniform(-0.2, 0.25), rng.uniform(0.75, 1.7)
            table = np.array([(side[0], near), (side[1], near), (side[1], far), (side[0], far)])
            turn = rng.normal(0, 0.08)
            table = table @ np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
        self._carpet(rng, canvas, camera, table, 0.0, self._tone(rng), rng.uniform(0.3, 1.0))
        if has_person and not over_person:  # beside the table or leaning over it
            draw_person(canvas, rng, light, PERSON_ID)
        return canvas, table

    @staticmethod
    def _tone(rng: np.random.Generator) -> Floats:
        tones = np.array([
            [150, 110, 75], [190, 160, 120], [120, 120, 125], [205, 205, 203], [62, 64, 72], [165, 140, 110],
            [95, 110, 105],
            [90, 60, 42], [80, 90, 130], [130, 125, 115], [215, 200, 175], [40, 40, 42],
        ])  # fmt: skip
        return np.asarray(tones[rng.integers(len(tones))] * rng.uniform(0.75, 1.15) + rng.normal(0, 8, 3))

    def _carpet(
        self,
        rng: np.random.Generator,
        canvas: Canvas,
        camera: FlatCamera,
        corners: Floats,
        z: float,
        colour: Floats,
        metres: float,
    ) -> None:
        """Lay a textured polygon [n, 2] m at height z; one turn of the texture spans `metres`."""
        texture = surface_texture(rng, colour)
        turn, side = rng.uniform(0, np.pi), texture.shape[0]
        anchors = np.array([(0.0, 0.6), (0.3, 0.6), (0.3, 1.2), (0.0, 1.2)])
        pixels = camera.project(np.c_[anchors, np.full(4, z)])
        spin = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
        warp = cv2.getPerspectiveTransform(np.float32(anchors @ spin * side / metres + side), np.float32(pixels))
        size = (self.width, self.height)
        laid = cv2.warpPerspective(texture, warp, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        dense = np.concatenate([np.linspace(a, b, 40) for a, b in zip(corners, np.roll(corners, -1, 0), strict=True)])
        ahead = ((np.c_[dense, np.full(len(dense), z)] - camera.position) @ camera.axes[2]) > 0.12
        outline = camera.project(np.c_[dense[ahead], np.full(int(ahead.sum()), z)])
        outline = np.clip(outline, -4 * self.width, 5 * self.width)
        hull = cv2.convexHull(np.float32(outline))[:, 0]
        mask = np.zeros((self.height, self.width), np.uint8)
        cv2.fillPoly(mask, [np.round(hull * 16).astype(np.int32).reshape(-1, 1, 2)], 255, cv2.LINE_AA, 4)
        cover = (mask.astype(np.float32) / 255)[..., None]
        canvas.image += cover * (laid - canvas.image)
        canvas.instance[mask > 127] = 0

    def _clutter(self, rng: np.random.Generator, canvas: Canvas) -> None:
        centre = rng.uniform((0, 0), (self.width, 0.55 * self.height))
        span = rng.uniform(0.04, 0.35, 2) * (self.width, self.height)
        angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(4, 9))))
        corners = centre + span * np.stack([np.cos(angles), np.sin(angles)], 1)
        if rng.random() < 0.5:
            corners = centre + span * np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
        grey = rng.uniform(25, 225)
        canvas.polygon(corners, np.clip(grey + rng.normal(0, 16, 3), 5, 250))

    def _place_obstacle(self, rng: np.random.Generator, camera: FlatCamera, table: Floats) -> Solid | None:
        for _ in range(TRIES):
            place = camera.ground(rng.uniform(0.15, 0.85) * self.width, rng.uniform(0.3, 0.9) * self.height)
            if (
                place is None
                or not _inside(place[:2], table)
                or not 0.4 < np.linalg.norm(place - camera.position) < 1.6
            ):
                continue
            tones = np.array(
                [[173, 133, 90], [189, 150, 107], [153, 115, 77], [120, 90, 60], [110, 112, 116], [70, 74, 82]]
            )
            rgb = tones[rng.integers(len(tones))] * rng.uniform(0.8, 1.1) + rng.normal(0, 5, 3)
            radius, height, yaw = rng.uniform(0.06, 0.12), rng.uniform(0.07, 0.17), rng.uniform(0, np.pi)
            lid = str(rng.choice(["tape", "open", "plain"]))
            return Solid("obstacle", "", rgb, place, radius, height, yaw, rng.uniform(0.7, 1.5), lid)
        return None

    def _place(
        self, rng: np.random.Generator, camera: FlatCamera, table: Floats, count: int,
        pairs: tuple[tuple[str, str], ...], obstacle: Solid | None,
    ) -> list[Solid]:  # fmt: skip
        things: list[Solid] = []
        boxes: list[Floats] = []
        scale = rng.uniform(0.75, 1.35)
        near_m, far_m = rng.uniform(0.35, 0.5), rng.uniform(0.9, 1.6)
        for _ in range(count):
            for _ in range(TRIES):
                place = camera.ground(rng.uniform(0.0, 1.0) * self.width, rng.uniform(0.1, 1.02) * self.height)
                if place is None or not near_m < np.linalg.norm(place - camera.position) < far_m:
                    continue
                if not _inside(place[:2], table):
                    continue
                colour, shape = pairs[int(rng.integers(len(pairs)))]
                radius = scale * rng.uniform(0.027, 0.042)
                height = (
                    radius
                    * {"cube": 2.0, "ball": 2.0, "cylinder": rng.uniform(2.2, 4.2), "mug": rng.uniform(1.9, 2.8)}[shape]
                )
                rgb = jittered_colour(rng, colour)
                thing = Solid(shape, colour, rgb, place, radius, height, rng.uniform(-np.pi, np.pi))
                if self._fits(thing, camera, things, boxes, obstacle):
                    things.append(thing)
                    outline = thing.outline(camera)
                    boxes.append(np.r_[outline.min(0), outline.max(0)])
                    break
        return things

    def _fits(
        self, thing: Solid, camera: FlatCamera, things: list[Solid], boxes: list[Floats], obstacle: Solid | None
    ) -> bool:
        outline = thing.outline(camera)
        box = np.r_[outline.min(0), outline.max(0)]
        inside = np.clip(box, 0, (self.width, self.height) * 2)
        size, shown = box[2:] - box[:2], inside[2:] - inside[:2]
        if np.any(shown < 0.45 * size) or np.any(shown < LEAST_SIDE_PX):
            return False
        if obstacle is not None:
            if np.linalg.norm((thing.place - obstacle.place)[:2]) < 1.1 * (thing.radius_m + 1.45 * obstacle.radius_m):
                return False
            shape = obstacle.outline(camera)
            if _covered(box, np.r_[shape.min(0), shape.max(0)]) > 0.7 and thing.place[1] > obstacle.place[1]:
                return False
        for other, other_box in zip(things, boxes, strict=True):
            if np.linalg.norm((thing.place - other.place)[:2]) < 1.15 * (thing.radius_m + other.radius_m):
                return False
            if _covered(box, other_box) > MOST_COVERED:
                return False
        return True

    def _draw(
        self, canvas: Canvas, camera: FlatCamera, light: Light, things: list[Solid], obstacle: Solid | None
    ) -> dict[int, int]:
        """Draw from far to near; returns for each thing the pixels that it has before others cover it."""
        order = [(i + 1, thing) for i, thing in enumerate(things)]
        if obstacle is not None:
            order.append((OBSTACLE_ID, obstacle))
        order.sort(key=lambda pair: -float(np.linalg.norm(pair[1].place - camera.position)))
        full = {}
        for identity, thing in order:
            draw_solid(canvas, camera, light, thing, identity)
            full[identity] = int(np.count_nonzero(canvas.instance == identity))
        return full

    def _label(
        self,
        image: NDArray[np.uint8],
        drawn: NDArray[np.uint8],
        camera: FlatCamera,
        things: list[Solid],
        full: dict[int, int],
    ) -> LabelledFrame:
        seen: list[tuple[int, SeenObject]] = []
        for i, thing in enumerate(things):
            box, pixels = _tight_box(drawn, i + 1)
            if box is None:
                continue
            hull = cv2.convexHull(np.float32(thing.outline(camera)))
            outside = 1.0 if _within(hull, self.width, self.height) else _share_inside(hull, self.width, self.height)
            fraction = min(1.0, pixels / max(full[i + 1], 1) * outside)
            distance = float(np.linalg.norm(thing.place + np.array([0, 0, thing.height_m / 2]) - camera.position))
            seen.append((i + 1, SeenObject(thing.shape, thing.colour, box, distance, pixels, fraction)))
        seen.sort(key=lambda pair: pair[1].box)
        index_of = np.full(256, -1, np.int16)
        for index, (identity, _) in enumerate(seen):
            index_of[identity] = index
        objects = tuple(thing for _, thing in seen)
        person, obstacle = _tight_box(drawn, PERSON_ID)[0], _tight_box(drawn, OBSTACLE_ID)[0]
        return LabelledFrame(image, objects, person, obstacle, index_of[drawn])


def _tight_box(drawn: NDArray[np.uint8], identity: int) -> tuple[Box | None, int]:
    mask = (drawn == identity).astype(np.uint8)
    pixels = cv2.countNonZero(mask)
    if pixels == 0:
        return None, 0
    x, y, width, height = cv2.boundingRect(mask)
    return (float(x), float(y), float(x + width), float(y + height)), pixels


def _inside(point: Floats, polygon: Floats) -> bool:
    return cv2.pointPolygonTest(np.float32(polygon), (float(point[0]), float(point[1])), False) > 0


def _covered(box: Floats, other: Floats) -> float:
    """Overlap of two boxes as a share of the smaller one."""
    size = np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2])
    if np.any(size <= 0):
        return 0.0
    return float(np.prod(size) / min(np.prod(box[2:] - box[:2]), np.prod(other[2:] - other[:2])))


def _within(hull: Floats, width: int, height: int) -> bool:
    return bool(hull.min() >= 0 and hull[..., 0].max() <= width and hull[..., 1].max() <= height)


def _share_inside(hull: Floats, width: int, height: int) -> float:
    frame = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float32)
    inside, _ = cv2.intersectConvexConvex(np.float32(hull), frame)
    return float(inside / max(cv2.contourArea(np.float32(hull)), 1.0))
