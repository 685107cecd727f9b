"""Frames of the simulator's scenes in plain areas of colour: a renderer that nothing is trained on.

Neither MuJoCo nor the flat renderer of training has a part in it: the objects' outlines are computed, filled with their
colour in two or three tones, and laid over each other from far to near. No light, shadow, texture or noise. So it
tells how much of what was learned hangs on how the two renderers of training draw. Persons are left out.
"""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from exaone_ros.sim.camera import View
from exaone_ros.sim.frame import LabelledFrame, SeenObject
from exaone_ros.sim.sampling import SceneOptions, sample_scene
from exaone_ros.sim.scene import TABLE_TOP_M, TABLE_X_M, TABLE_Y_M, Obstacle, Rgb, Scene, TableObject
from exaone_ros.sim.silhouette import hulls_px, silhouette_px

OVERSAMPLING = 2
OBSTACLE_INDEX = 1000
MIN_VISIBLE_PX = 8
TABLE_RGB: Rgb = (0.60, 0.56, 0.50)
CIRCLE = np.linspace(0, 2 * math.pi, 40, endpoint=False)
INSIDE = 0.85
"""Radius of a mug's opening, as a share of its own."""


class PlainRenderer:
    """Renders frames of one size.

    Args:
        width, height: of the images in pixels.
    """

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height

    def render(self, seed: int, options: SceneOptions | None = None) -> LabelledFrame:
        """Render the scene that `seed` stands for: the same seed and options give the same frame."""
        options = replace(options or SceneOptions(), person_share=0.0)
        return self.render_scene(sample_scene(np.random.default_rng(seed), options, self.width / self.height))

    def render_scene(self, scene: Scene) -> LabelledFrame:
        """Render a scene, without its person."""
        fine = scene.camera.view(self.width * OVERSAMPLING, self.height * OVERSAMPLING)
        size = (self.height * OVERSAMPLING, self.width * OVERSAMPLING)
        image = np.full((*size, 3), 255 * np.array(scene.surroundings.wall), np.float32)
        instance = np.full(size, -1, np.int16)
        _fill(image, None, _table(fine), TABLE_RGB, 1.0)
        nearest_last = sorted(
            range(len(scene.objects)), key=lambda i: -float(np.linalg.norm(scene.objects[i].centre_m - fine.position))
        )
        for index in nearest_last:
            _draw(image, instance, scene.objects[index], index, fine)
        if scene.obstacle is not None:  # it stands before the objects
            _draw_box(image, instance, scene.obstacle, fine)
        image = np.asarray(cv2.resize(image, (self.width, self.height), interpolation=cv2.INTER_AREA), np.float32)
        return self._label(scene, np.clip(image, 0, 255).astype(np.uint8), instance[::OVERSAMPLING, ::OVERSAMPLING])

    def _label(self, scene: Scene, image: NDArray[np.uint8], drawn: NDArray[np.int16]) -> LabelledFrame:
        view = scene.camera.view(self.width, self.height)
        seen: list[tuple[int, SeenObject]] = []
        for index, thing in enumerate(scene.objects):
            box = _box(drawn == index)
            if box is None:
                continue
            pixels, centre = int((drawn == index).sum()), np.array(thing.centre_m)
            whole = silhouette_px(thing.shape, thing.radius_m, thing.height_m, centre, _rotation(thing.yaw_rad), view)
            distance = float(np.linalg.norm(centre - view.position))
            fraction = min(1.0, pixels / max(whole, 1.0))
            seen.append((index, SeenObject(thing.shape, thing.colour, box, distance, pixels, fraction)))
        seen.sort(key=lambda pair: pair[1].box)
        instance = np.full(drawn.shape, -1, np.int16)
        for place, (index, _) in enumerate(seen):
            instance[drawn == index] = place
        return LabelledFrame(image, tuple(thing for _, thing in seen), None, _box(drawn == OBSTACLE_INDEX), instance)


def _box(mask: NDArray[np.bool_]) -> tuple[float, float, float, float] | None:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if mask.sum() < MIN_VISIBLE_PX:
        return None
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def _rotation(yaw: float) -> NDArray[np.float64]:
    return np.array([[math.cos(yaw), -math.sin(yaw), 0], [math.sin(yaw), math.cos(yaw), 0], [0, 0, 1]], np.float64)


def _fill(
    image: NDArray[np.float32], instance: NDArray[np.int16] | None, pixels: NDArray[np.floating], rgb: Rgb, tone: float,
    index: int = 0,
) -> None:  # fmt: skip
    """Fill a convex polygon, [n, 2] px, with a colour, and its place in the instance map with an index."""
    mask = np.zeros(image.shape[:2], np.uint8)
    corners = np.round((np.asarray(pixels, np.float64) - 0.5) * 16).astype(np.int32)
    inside = cv2.fillConvexPoly(mask, corners, (1,), lineType=cv2.LINE_8, shift=4) > 0
    image[inside] = 255 * tone * np.array(rgb)
    if instance is not None:
        instance[inside] = index


def _table(view: View) -> NDArray[np.float32]:
    x, y = np.meshgrid(np.linspace(*TABLE_X_M, 40), np.linspace(*TABLE_Y_M, 40))
    pixels, depth = view.project(np.stack([x.ravel(), y.ravel(), np.full(x.size, TABLE_TOP_M)], 1))
    return np.asarray(cv2.convexHull(pixels[depth > 0.05].astype(np.float32)), np.float32).reshape(-1, 2)


def _draw(image: NDArray[np.float32], instance: NDArray[np.int16], thing: TableObject, index: int, view: View) -> None:
    centre, turn = np.array(thing.centre_m), _rotation(thing.yaw_rad)
    for hull in reversed(hulls_px(thing.shape, thing.radius_m, thing.height_m, centre, turn, view)):
        _fill(image, instance, hull, thing.rgb, 0.8, index)
    half = np.array([thing.radius_m, thing.radius_m, thing.height_m / 2])
    if thing.shape == "cube":
        _faces(image, centre, turn, half, thing.rgb, view)
    elif thing.shape in ("cylinder", "mug"):
        for share, tone in ((1.0, 1.0),) if thing.shape == "cylinder" else ((1.0, 1.0), (INSIDE, 0.55)):
            ring = np.stack([np.cos(CIRCLE), np.sin(CIRCLE), np.ones_like(CIRCLE)], 1) * half * (share, share, 1)
            _fill(image, None, view.project(ring + centre)[0], thing.rgb, tone)


def _draw_box(image: NDArray[np.float32], instance: NDArray[np.int16], box: Obstacle, view: View) -> None:
    half, turn = np.array(box.size_m) / 2, _rotation(box.yaw_rad)
    centre = np.array([box.x_m, box.y_m, TABLE_TOP_M + half[2]])
    corners = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * half @ turn.T + centre
    hull = cv2.convexHull(view.project(corners)[0].astype(np.float32)).reshape(-1, 2)
    _fill(image, instance, hull, box.rgb, 0.8, OBSTACLE_INDEX)
    _faces(image, centre, turn, half, box.rgb, view)


def _faces(
    image: NDArray[np.float32], centre: NDArray[np.float64], turn: NDArray[np.float64], half: NDArray[np.float64],
    rgb: Rgb, view: View,
) -> None:  # fmt: skip
    """The sides of a box that the camera sees, each in a tone of its own."""
    square = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], np.float64)
    for axis, tone in ((0, 0.7), (1, 0.85), (2, 1.0)):
        for sign in (-1.0, 1.0):
            face = np.insert(square, axis, sign, axis=1) * half @ turn.T + centre
            outward = sign * turn[:, axis]
            if (view.position - face.mean(0)) @ outward > 0:
                _fill(image, None, view.project(face)[0], rgb, tone)
