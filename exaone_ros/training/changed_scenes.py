"""Scenes as `sim.sampling` never draws them: other tables, rooms, lights, surfaces, cameras and ways to lie there.

A scene is drawn as ever and then changed: as a value where `Scene` can say it, in the compiled model where it cannot.
Labels come from what was rendered, so they stay exact. `stress` looks at fixed changes of validation seeds; `prerender`
draws some at random for shards of training seeds (`training_change`): of kinds that `stress` shows, on purpose,
mostly milder.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exaone_ros.sim.frame import LabelledFrame
from exaone_ros.sim.gl import require_mujoco
from exaone_ros.sim.humanoid import CAMERA_NAME
from exaone_ros.sim.sampling import SceneOptions, sample_scene
from exaone_ros.sim.scene import Light, Rgb, Scene
from exaone_ros.sim.tabletop import TabletopRenderer
from exaone_ros.training.splits import HELD_OUT_PAIRS, STRESSED_FROM, frame_seed

SPLIT = "validation"
"""The split whose scenes `stress` looks at; the test split is left to `evaluate`."""

Revalue = Callable[[Scene, np.random.Generator], Scene]
Remodel = Callable[[Any, np.random.Generator], None]
"""Changes a compiled `mujoco.MjModel`, as it stands after a scene was applied."""
Relay = Callable[[NDArray[np.float64], Scene, Callable[[int], slice]], None]
"""Moves objects: joint positions, the scene, and where in them an object's position and quaternion stand."""


@dataclass(frozen=True)
class Strange:
    """What is done to a scene before it is rendered; None = nothing.

    Attributes:
        scene: changes the value.
        model: changes the compiled model.
        poses: moves objects.
        width, height: of the image in pixels.
    """

    scene: Revalue | None = None
    model: Remodel | None = None
    poses: Relay | None = None
    width: int = 640
    height: int = 480


class StrangeRenderer(TabletopRenderer):
    """Renders scenes, changed; not thread-safe.

    Args:
        strange: how.
        shadows, samples: as in TabletopRenderer.
    """

    def __init__(self, strange: Strange, *, shadows: bool = True, samples: int = 4) -> None:
        super().__init__(strange.width, strange.height, shadows=shadows, samples=samples)
        self._strange = strange

    def render_strange(self, seed: int, options: SceneOptions | None = None) -> LabelledFrame:
        """Render the scene that `seed` stands for, changed: the same seed and options give the same frame."""
        rng = np.random.default_rng([91, seed])
        options = options or SceneOptions(exclude_pairs=HELD_OUT_PAIRS)
        scene = sample_scene(np.random.default_rng(seed), options, self.width / self.height)
        if self._strange.scene is not None:
            scene = self._strange.scene(scene, rng)
        self._tabletop.apply(scene)
        if self._strange.model is not None:
            self._strange.model(self._tabletop.model, rng)
        poses = self._tabletop.snapshot()
        if self._strange.poses is not None:
            self._strange.poses(poses, scene, lambda index: self._tabletop.object_joint(index)[0])
        self._scene = scene  # it has been applied: not once more, over the changes
        return self.render_scene(scene, poses)


def strange_frames(strange: Strange, number: int) -> Iterator[LabelledFrame]:
    """So many of the frames that `stress` looks at: of the split SPLIT, from STRESSED_FROM on."""
    with StrangeRenderer(strange) as renderer:
        for index in range(number):
            yield renderer.render_strange(frame_seed(SPLIT, STRESSED_FROM + index))


# -- light -------------------------------------------------------------------------------------------------------------


def lit(**light: Any) -> Revalue:
    """Other light: attributes of `Light`."""
    return lambda scene, rng: replace(scene, light=replace(scene.light, **light))


def side_light(scene: Scene, rng: np.random.Generator) -> Scene:
    """One hard light, low from the left or from the right."""
    azimuth = math.pi / 2 * float(rng.choice((-1.0, 1.0)))
    return replace(scene, light=Light(azimuth, 0.25, key=1.0, fill=0.0, ambient=0.12))


# -- room --------------------------------------------------------------------------------------------------------------


def painted(table: Rgb | tuple[Rgb, ...], floor: Rgb, wall: Rgb) -> Remodel:
    """Table, floor and wall in plain paint instead of textures; of several colours for the table each frame has one."""
    tables = table if isinstance(table[0], tuple) else (table,)

    def change(model: Any, rng: np.random.Generator) -> None:
        chosen = tables[int(rng.integers(len(tables)))]
        for geom, rgb in (("table_top", chosen), ("floor", floor), ("wall", wall)):
            index = model.geom(geom).id
            model.geom_matid[index] = -1
            model.geom_rgba[index] = (*rgb, 1.0)

    return change


STRONG: tuple[Rgb, ...] = ((0.70, 0.16, 0.14), (0.14, 0.45, 0.20), (0.16, 0.28, 0.65), (0.80, 0.70, 0.20))


# -- surfaces of the objects -------------------------------------------------------------------------------------------


def surface(**values: float) -> Remodel:
    """The objects' material: specular, shininess, emission; 0..1 each."""

    def change(model: Any, rng: np.random.Generator) -> None:
        material = model.mat("object").id
        for name, value in values.items():
            getattr(model, f"mat_{name}")[material] = value

    return change


def brighter(scene: Scene, rng: np.random.Generator, by: float = 0.45) -> Scene:
    """Every object in a paler tone of its colour, as pastel paint (white and black stay)."""

    def pale(rgb: Rgb) -> Rgb:
        return (1 - by) * rgb[0] + by, (1 - by) * rgb[1] + by, (1 - by) * rgb[2] + by

    things = tuple(t if t.colour in ("white", "black") else replace(t, rgb=pale(t.rgb)) for t in scene.objects)
    return replace(scene, objects=things)


# -- how objects lie there ---------------------------------------------------------------------------------------------


def sized(share: float) -> Revalue:
    """Every object but mugs (whose meshes cannot be scaled) this much as large."""

    def change(scene: Scene, rng: np.random.Generator) -> Scene:
        things = tuple(
            t if t.shape == "mug" else replace(t, radius_m=share * t.radius_m, height_m=share * t.height_m)
            for t in scene.objects
        )
        return replace(scene, objects=things)

    return change


def stacked(poses: NDArray[np.float64], scene: Scene, place: Callable[[int], slice]) -> None:
    """Every second object stands on the one before it, where that has a flat top."""
    for below in range(0, len(scene.objects) - 1, 2):
        if scene.objects[below].shape in ("cube", "cylinder"):
            under, upper = poses[place(below)], poses[place(below + 1)]
            upper[:2] = under[:2]
            upper[2] = under[2] + (scene.objects[below].height_m + scene.objects[below + 1].height_m) / 2


def lying(poses: NDArray[np.float64], scene: Scene, place: Callable[[int], slice]) -> None:
    """Cylinders and mugs lie on their sides."""
    for index, thing in enumerate(scene.objects):
        if thing.shape in ("cylinder", "mug"):
            pose = poses[place(index)]
            pose[2] -= thing.height_m / 2 - thing.radius_m
            half, turn = math.cos(math.pi / 4), thing.yaw_rad / 2
            # about the vertical, behind a quarter turn about x
            pose[3:] = half * np.array([math.cos(turn), math.cos(turn), math.sin(turn), math.sin(turn)])


# -- camera ------------------------------------------------------------------------------------------------------------


def looking(*, tilt: float = 0.0, sway_m: tuple[float, float, float] = (0.0, 0.0, 0.0), fovy: float = 0.0) -> Revalue:
    """The head tilted more (radians, down), elsewhere (metres), through another lens (degrees; 0 = the same)."""

    def change(scene: Scene, rng: np.random.Generator) -> Scene:
        camera = scene.camera
        where = tuple(a + b for a, b in zip(camera.sway_m, sway_m, strict=True))
        return replace(
            scene,
            camera=replace(
                camera,
                tilt_rad=camera.tilt_rad + tilt,
                sway_m=(where[0], where[1], where[2]),
                fovy_deg=fovy or camera.fovy_deg,
            ),
        )

    return change


def rolled(degrees: float) -> Remodel:
    """The camera turned about its own axis, as a hand would hold it: clockwise or the other way."""

    def change(model: Any, rng: np.random.Generator) -> None:
        turn = math.radians(degrees) * float(rng.choice((-1.0, 1.0)))
        right, up, back = np.eye(3)[[1, 2, 0]] * ((-1,), (1,), (-1,))  # of a camera that looks along its head's x
        axes = (math.cos(turn) * right + math.sin(turn) * up, math.cos(turn) * up - math.sin(turn) * right, back)
        quaternion = np.empty(4)
        require_mujoco().mju_mat2Quat(quaternion, np.stack(axes, axis=1).ravel())
        model.cam_quat[model.camera(CAMERA_NAME).id] = quaternion

    return change


# -- for training ------------------------------------------------------------------------------------------------------


def training_change(rng: np.random.Generator) -> Strange:
    """A change for the frames of one training shard; image sizes stay as they are.

    The shard has its kind of change, floor, wall, field of view and angle of roll in common. Each frame draws for
    itself which of 16 tables it shows, the light, how pale or small its objects are, and to which side it rolls.
    """
    tables = tuple(_any_colour(rng) for _ in range(16))
    strong_room = painted(tables, _any_colour(rng), _any_colour(rng))
    changes = (
        Strange(model=strong_room),
        Strange(model=strong_room, scene=_lit_from_the_side),
        Strange(scene=_lit_from_the_side),
        Strange(scene=lambda scene, draw: brighter(scene, draw, by=float(draw.uniform(0.05, 0.4)))),
        Strange(scene=lambda scene, draw: sized(float(draw.uniform(0.55, 0.95)))(scene, draw), model=strong_room),
        Strange(poses=lying),
        Strange(poses=stacked),
        Strange(scene=looking(fovy=float(rng.uniform(72.0, 88.0)))),
        Strange(model=rolled(float(rng.uniform(3.0, 12.0)))),
    )
    return changes[int(rng.integers(len(changes)))]


def _any_colour(rng: np.random.Generator) -> Rgb:
    red, green, blue = rng.uniform(0.06, 0.9, 3)
    return float(red), float(green), float(blue)


def _lit_from_the_side(scene: Scene, rng: np.random.Generator) -> Scene:
    """Low light, harder or softer, from anywhere."""
    light = Light(
        azimuth_rad=float(rng.uniform(-math.pi, math.pi)), elevation_rad=float(rng.uniform(0.25, 0.8)),
        key=float(rng.uniform(0.6, 1.0)), fill=float(rng.uniform(0.0, 0.1)), ambient=float(rng.uniform(0.12, 0.3)),
    )  # fmt: skip
    return replace(scene, light=light)
