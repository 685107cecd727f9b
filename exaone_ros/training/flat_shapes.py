"""The solids of the flat renderer as shaded polygons: cube, ball, cylinder, mug, obstacle and person."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from exaone_ros.training.flat_canvas import Canvas, FlatCamera, Floats, Shade

_ANGLES = np.linspace(0, 2 * np.pi, 32, endpoint=False)
CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)


@dataclass(frozen=True)
class Light:
    """One distant lamp and what comes from everywhere.

    Attributes:
        direction: [3] unit vector towards the lamp.
        ambient, key: brightness from everywhere and from the lamp.
        shadow: opacity 0..1 of cast shadows; 0 where there is ambient light only.
        gloss: strength of highlights.
    """

    direction: Floats
    ambient: float
    key: float
    shadow: float
    gloss: float

    @classmethod
    def sample(cls, rng: np.random.Generator) -> Light:
        azimuth, elevation = rng.uniform(-np.pi, np.pi), rng.uniform(0.5, 1.45)
        flat = math.cos(elevation)
        direction = np.array([flat * math.cos(azimuth), flat * math.sin(azimuth), math.sin(elevation)])
        if rng.random() < 0.2:  # ambient alone, as some simulators render: next to no shading, no shadow
            return cls(direction, rng.uniform(0.6, 1.0), rng.uniform(0, 0.08), 0.0, 0.0)
        shadow = rng.uniform(0.15, 0.65) if rng.random() < 0.8 else 0.0
        return cls(direction, rng.uniform(0.38, 0.65), rng.uniform(0.3, 0.6), shadow, rng.uniform(0, 0.5))

    def on(self, normal: Floats) -> float:
        """Brightness of a surface with this unit normal."""
        return self.ambient + self.key * max(0.0, float(normal @ self.direction))


@dataclass(frozen=True)
class Solid:
    """Something that stands on the table.

    Attributes:
        shape: one of vocabulary.SHAPES, or "obstacle".
        colour: its name; empty for an obstacle.
        rgb: [3] 0..255.
        place: [3] centre of its foot, metres.
        radius_m: radius, or half an edge.
        height_m: height.
        yaw_rad: turn about the vertical.
        depth: for boxes, second half edge / radius_m.
        lid: of an obstacle: "plain", "tape" or "open".
    """

    shape: str
    colour: str
    rgb: Floats
    place: Floats
    radius_m: float
    height_m: float
    yaw_rad: float
    depth: float = 1.0
    lid: str = "plain"

    def footprint(self) -> Floats:
        """Corners of its foot, [n, 3] m."""
        if self.shape in ("cube", "obstacle"):
            turn = np.array(
                [(math.cos(self.yaw_rad), math.sin(self.yaw_rad)), (-math.sin(self.yaw_rad), math.cos(self.yaw_rad))]
            )
            flat = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * (1, self.depth) * self.radius_m @ turn
        else:
            flat = CIRCLE * self.radius_m
        return np.asarray(self.place + np.c_[flat, np.zeros(len(flat))])

    def outline(self, camera: FlatCamera) -> Floats:
        """Convex hull of the projected solid in pixels, [n, 2]; a mug's handle is left out."""
        foot = self.footprint()
        if self.shape == "ball":
            return _ball_rim(camera, self)[0]
        points = camera.project(np.concatenate([foot, foot + np.array([0, 0, self.height_m])]))
        return np.asarray(cv2.convexHull(np.float32(points))[:, 0], np.float64)


def draw_shadow(canvas: Canvas, camera: FlatCamera, light: Light, solid: Solid) -> None:
    """Darken the table where the solid keeps the lamp away."""
    if light.shadow <= 0 or light.direction[2] < 0.1:
        return
    slope = light.direction[:2] / light.direction[2]
    foot = solid.footprint()
    if solid.shape == "ball":
        stretch = np.linalg.norm(slope)
        along = slope / max(stretch, 1e-6)
        flat = CIRCLE * solid.radius_m
        flat = flat + np.outer(flat @ along, along) * (math.hypot(1, stretch) - 1)
        points = solid.place + np.c_[flat - slope * solid.radius_m, np.zeros(len(flat))]
    else:
        points = np.concatenate([foot, foot - np.r_[slope * solid.height_m, 0]])
    hull = cv2.convexHull(np.float32(camera.project(points)))[:, 0]
    canvas.polygon(hull, np.zeros(3), opacity=light.shadow)


def draw_solid(canvas: Canvas, camera: FlatCamera, light: Light, solid: Solid, identity: int) -> None:
    """Draw a solid with its shading, as thing number `identity`."""
    drawers = {
        "cube": _draw_box,
        "obstacle": _draw_box,
        "ball": _draw_ball,
        "cylinder": _draw_cylinder,
        "mug": _draw_mug,
    }
    drawers[solid.shape](canvas, camera, light, solid, identity)


def _draw_box(canvas: Canvas, camera: FlatCamera, light: Light, solid: Solid, identity: int) -> None:
    foot = solid.footprint()
    top = foot + np.array([0, 0, solid.height_m])
    for i in range(4):
        j = (i + 1) % 4
        normal = (foot[i] + foot[j]) / 2 - solid.place
        normal = normal / np.linalg.norm(normal)
        if normal @ (camera.position - foot[i]) > 0:
            side = camera.project(np.array([foot[i], foot[j], top[j], top[i]]))
            canvas.polygon(side, solid.rgb * light.on(normal), identity)
    upward = light.on(np.array([0.0, 0.0, 1.0]))
    canvas.polygon(camera.project(top), solid.rgb * upward, identity)
    centre = top.mean(0)
    if solid.lid == "tape":
        band = top
        across = (band[1] - band[0]) * 0.38
        strip = np.array([band[0] + across, band[1] - across, band[2] - across, band[3] + across])
        canvas.polygon(camera.project(strip), np.minimum(solid.rgb * upward * 1.2 + 12, 255), identity)
    elif solid.lid == "open":
        canvas.polygon(camera.project(centre + (top - centre) * 0.85), solid.rgb * light.ambient * 0.4, identity)


def _ball_rim(camera: FlatCamera, solid: Solid) -> tuple[Floats, Floats, float]:
    """Silhouette [n, 2] px of a sphere, the pixel of its centre, and its radius in pixels."""
    centre = solid.place + np.array([0, 0, solid.radius_m])
    towards = camera.position - centre
    distance = float(np.linalg.norm(towards))
    towards = towards / distance
    side = np.cross(towards, (0.0, 0.0, 1.0))
    side = side / np.linalg.norm(side)
    rise = np.cross(side, towards)
    # the tangent cone touches the sphere on a circle a little before its centre
    before = solid.radius_m**2 / distance
    radius = solid.radius_m * math.sqrt(1 - (solid.radius_m / distance) ** 2)
    rim = camera.project(centre + towards * before + radius * (CIRCLE[:, :1] * side + CIRCLE[:, 1:] * rise))
    return rim, camera.project(centre[None])[0], float(np.ptp(rim[:, 0]) / 2)


def _draw_ball(canvas: Canvas, camera: FlatCamera, light: Light, solid: Solid, identity: int) -> None:
    rim, centre, radius = _ball_rim(camera, solid)
    radius = max(radius, 1.0)
    local = camera.axes @ light.direction  # right, up, forward

    def shade(x: Floats, y: Floats) -> Floats:
        u, v = (x - centre[0]) / radius, (centre[1] - y) / radius
        depth = np.sqrt(np.clip(1 - u * u - v * v, 0, 1))
        facing = np.clip(u * local[0] + v * local[1] - depth * local[2], 0, 1)
        return np.asarray(light.ambient + light.key * facing + light.gloss * facing**24)

    canvas.polygon(rim, solid.rgb, identity, shade)


def _side_shade(camera: FlatCamera, light: Light, solid: Solid) -> Shade:
    """Shading around an upright cylinder."""
    axis = camera.project(np.array([solid.place, solid.place + np.array([0, 0, solid.height_m])]))
    radius = max(solid.radius_m * camera.px_per_m(solid.place + np.array([0, 0, solid.height_m / 2])), 1.0)
    local = camera.axes @ (light.direction * (1, 1, 0))
    rise = axis[1, 1] - axis[0, 1]

    def shade(x: Floats, y: Floats) -> Floats:
        share = np.clip((y - axis[0, 1]) / rise, -0.3, 1.3) if abs(rise) > 2 else 0.5
        u = np.clip((x - (axis[0, 0] + share * (axis[1, 0] - axis[0, 0]))) / radius, -1, 1)
        facing = np.clip(u * local[0] - np.sqrt(1 - u * u) * local[2], 0, 1)
        return np.asarray(light.ambient + light.key * facing + 0.5 * light.gloss * facing**20)

    return shade


def _draw_cylinder(canvas: Canvas, camera: FlatCamera, light: Light, solid: Solid, identity: int) -> None:
    canvas.polygon(solid.outline(camera), solid.rgb, identity, _side_shade(camera, light, solid))
    top = camera.project(solid.footprint() + np.array([0, 0, solid.height_m]))
    canvas.polygon(top, solid.rgb * light.on(np.array([0.0, 0.0, 1.0])), identity)


def _draw_mug(canvas: Canvas, camera: FlatCamera, light: Light, solid: Solid, identity: int) -> None:
    outward = np.array([math.cos(solid.yaw_rad), math.sin(solid.yaw_rad), 0.0])
    bend = np.linspace(0, np.pi, 12)[:, None]
    reach, rise = 0.62 * solid.radius_m, 0.3 * solid.height_m
    ring = (
        solid.place + np.array([0, 0, 0.52 * solid.height_m]) + outward * (0.92 * solid.radius_m + reach * np.sin(bend))
    )
    ring = ring + np.array([0.0, 0.0, 1.0]) * rise * np.cos(bend)
    thickness = max(1, round(0.24 * solid.radius_m * camera.px_per_m(solid.place)))
    behind = float(outward @ (camera.position - solid.place)) < 0
    bright = light.on(outward) * 0.95

    def handle() -> None:
        canvas.line(camera.project(ring), thickness, solid.rgb * bright, identity)

    if behind:
        handle()
    canvas.polygon(solid.outline(camera), solid.rgb, identity, _side_shade(camera, light, solid))
    top = solid.footprint() + np.array([0, 0, solid.height_m])
    centre = top.mean(0)
    canvas.polygon(camera.project(top), solid.rgb * light.on(np.array([0.0, 0.0, 1.0])), identity)
    hollow = centre + (top - centre) * 0.84
    canvas.polygon(camera.project(hollow), solid.rgb * (0.55 * light.ambient), identity)
    deep = centre - (0, 0, 0.25 * solid.height_m) + (top - centre) * 0.7
    area, both = cv2.intersectConvexConvex(np.float32(camera.project(hollow)), np.float32(camera.project(deep)))
    if area > 4:
        canvas.polygon(both[:, 0], solid.rgb * (0.35 * light.ambient), identity)
    if not behind:
        handle()


def draw_person(canvas: Canvas, rng: np.random.Generator, light: Light, identity: int) -> None:
    """A figure behind the table, head in view or cut off by the upper edge; the table is drawn over its legs later."""
    height, width = canvas.image.shape[:2]
    tones = np.array(
        [[89, 107, 128], [140, 127, 112], [71, 76, 84], [158, 158, 153], [115, 71, 66], [76, 97, 82], [46, 53, 76]]
    )
    skins = np.array([[224, 178, 148], [199, 148, 112], [153, 107, 76], [107, 71, 51]])
    shirt, legs = tones[rng.integers(len(tones), size=2)] * rng.uniform(0.7, 1.1, (2, 1))
    skin = skins[rng.integers(len(skins))] * rng.uniform(0.85, 1.1)
    bright = light.ambient + 0.5 * light.key
    size = height * rng.uniform(0.75, 1.7)  # of the whole figure
    x, waist = rng.uniform(0.08, 0.92) * width, rng.uniform(0.05, 0.55) * height
    shoulder = 0.13 * size * rng.uniform(0.85, 1.15)
    hip = 0.095 * size
    chest = waist - 0.3 * size

    def limb(start: Floats, end: Floats, thick: float, colour: Floats) -> None:
        along = (end - start) / max(float(np.linalg.norm(end - start)), 1e-6)
        across = np.array([-along[1], along[0]]) * thick / 2
        corners = np.concatenate(
            [start + across * CIRCLE[:8, :1] - along * 0, [start - across, end - across * 0.75, end + across * 0.75]]
        )
        canvas.polygon(cv2.convexHull(np.float32(corners))[:, 0], colour, identity)
        canvas.polygon(end + CIRCLE * thick * 0.42, colour, identity)

    for side in (-1, 1):
        foot = np.array([x + side * hip * rng.uniform(0.4, 1.1), waist + 0.5 * size])
        limb(np.array([x + side * hip * 0.5, waist - 0.02 * size]), foot, 0.095 * size, legs * bright)
    torso = np.array([(x - shoulder, chest + 0.02 * size), (x - shoulder * 0.7, chest), (x + shoulder * 0.7, chest),
                      (x + shoulder, chest + 0.02 * size), (x + hip, waist), (x - hip, waist)])  # fmt: skip
    canvas.polygon(
        torso, shirt * bright, identity, lambda u, v: 1 + 0.18 * (u - x) / max(shoulder, 1) * light.direction[0] + 0 * v
    )
    for side in (-1, 1):
        joint = np.array([x + side * shoulder * 0.95, chest + 0.03 * size])
        swing = rng.uniform(-0.3, 0.9) * side
        elbow = joint + 0.16 * size * np.array([math.sin(swing), math.cos(swing)])
        bend = swing + rng.uniform(-1.3, 0.6) * side
        hand = elbow + 0.15 * size * np.array([math.sin(bend), math.cos(bend)])
        limb(joint, elbow, 0.06 * size, shirt * bright * 0.95)
        limb(elbow, hand, 0.048 * size, skin * bright)
    head = np.array([x, chest - 0.085 * size])
    canvas.polygon(head + CIRCLE * (0.05 * size, 0.066 * size), skin * bright, identity)
    hair = rng.uniform(15, 110) * np.array([1.0, 0.8, 0.6])
    canvas.polygon(head - (0, 0.02 * size) + CIRCLE[16:] * (0.052 * size, 0.055 * size), hair * bright, identity)
