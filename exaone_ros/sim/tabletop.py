"""Frames of the tabletop with exact labels: the simulator's camera, training's teacher, evaluation's examiner."""

from __future__ import annotations

from types import TracebackType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from exaone_ros.errors import SimulationError
from exaone_ros.sim.camera import Intrinsics, View
from exaone_ros.sim.frame import LabelledFrame, SeenObject
from exaone_ros.sim.gl import create_gl_context
from exaone_ros.sim.labels import regions
from exaone_ros.sim.model import OBSTACLE_LABEL, PERSON_LABEL, TabletopModel
from exaone_ros.sim.sampling import SceneOptions, sample_scene
from exaone_ros.sim.scene import Scene
from exaone_ros.sim.silhouette import silhouette_px

MIN_VISIBLE_PX = 8
"""What shows fewer pixels than this is not visible."""
MAX_SIDE_PX = 1920
_MAX_GEOMS = 1000

Renderer = TypeVar("Renderer", bound="TabletopRenderer")
"""Of a `with` statement: the class that was opened, not its base."""


class TabletopRenderer:
    """Renders scenes off screen with MuJoCo; one compiled model serves them all.

    Equal scenes give equal bytes on the same machine. Not thread-safe; may be used from any one thread at a time.

    Args:
        width, height: of the images in pixels, 16 to 1920.
        shadows: draw shadows of the key light (may be changed later through the attribute).
        samples: per pixel, for antialiasing; 0 = none.
        free: for snapshots of a world whose robot stands on its own feet.

    Raises:
        MissingExtra: MuJoCo or OpenGL is not installed.
        SimulationError: a size out of range.
    """

    def __init__(
        self, width: int = 640, height: int = 480, *, shadows: bool = True, samples: int = 4, free: bool = False
    ) -> None:
        for name, value in (("width", width), ("height", height)):
            if not 16 <= value <= MAX_SIDE_PX:
                raise SimulationError(f"{name} of the rendered image is {value}; expected 16 to {MAX_SIDE_PX} pixels")
        self.width, self.height, self.shadows = width, height, shadows
        self._tabletop = TabletopModel(free=free, samples=samples, max_side_px=max(width, height))
        mj = self._mj = self._tabletop.mj
        self._gl: Any = create_gl_context(width, height)
        self._gl.make_current()
        self._drawing = mj.MjvScene(self._tabletop.model, maxgeom=_MAX_GEOMS)
        self._drawing.flags[mj.mjtRndFlag.mjRND_REFLECTION] = 0
        self._context: Any = mj.MjrContext(self._tabletop.model, mj.mjtFontScale.mjFONTSCALE_100.value)
        mj.mjr_setBuffer(mj.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)
        self._rect = mj.MjrRect(0, 0, width, height)
        self._option = mj.MjvOption()
        self._camera = mj.MjvCamera()
        self._camera.type = mj.mjtCamera.mjCAMERA_FIXED
        self._camera.fixedcamid = self._tabletop.camera_id
        self._scene: Scene | None = None

    def render(self, seed: int, options: SceneOptions | None = None) -> LabelledFrame:
        """Render the scene that `seed` stands for: the same seed and options give the same frame."""
        options = options or SceneOptions()
        return self.render_scene(sample_scene(np.random.default_rng(seed), options, self.width / self.height))

    def render_scene(
        self, scene: Scene, qpos: NDArray[np.float64] | None = None, *, depth: bool = False, labels: bool = True
    ) -> LabelledFrame:
        """Render a scene.

        Args:
            scene: what to draw.
            qpos: joint positions (TabletopModel.snapshot) that robot and objects have meanwhile taken.
            depth: also read the depth of each pixel.
            labels: find out what is visible; without them a frame takes little more than half the time.

        Raises:
            SimulationError: the scene does not fit the model, or the renderer is closed.
        """
        if self._gl is None:
            raise SimulationError("the renderer was used after close()")
        if scene is not self._scene or qpos is None:
            self._tabletop.apply(scene)
            self._scene = scene
        if qpos is not None:
            self._tabletop.restore(qpos)
        self._gl.make_current()
        mj = self._mj
        mj.mjv_updateScene(
            self._tabletop.model, self._tabletop.data, self._option, None, self._camera, mj.mjtCatBit.mjCAT_ALL.value,
            self._drawing,
        )  # fmt: skip
        image = self._draw_image()
        drawn = self._draw_labels() if labels else None
        # The second drawing shows the same surfaces as the first, so its depth is the image's too.
        depth_m = self._read_depth() if depth else None
        if drawn is None:
            nothing = np.full(image.shape[:2], -1, np.int16)
            return LabelledFrame(image, (), None, None, nothing, depth_m, labelled=False)
        return self._label(scene, image, drawn, depth_m)

    def view(self) -> View:
        """The camera of the frame that was rendered last."""
        position, rotation = self._tabletop.camera_pose()
        fovy = float(self._tabletop.model.cam_fovy[self._tabletop.camera_id])
        return View(Intrinsics(self.width, self.height, fovy), position, rotation)

    def _read(self) -> NDArray[np.uint8]:
        pixels = np.empty((self.height, self.width, 3), np.uint8)
        self._mj.mjr_render(self._rect, self._drawing, self._context)
        self._mj.mjr_readPixels(pixels, None, self._rect, self._context)
        return pixels[::-1]  # OpenGL's first row is the lowest

    def _read_depth(self) -> NDArray[np.float32]:
        """Depth of what was drawn last, float32 [H, W] in metres along the optical axis; infinite: nothing there."""
        buffer = np.empty((self.height, self.width), np.float32)
        self._mj.mjr_readPixels(None, buffer, self._rect, self._context)
        # 0 at the far plane, 1 at the near one: OpenGL's perspective division, undone.
        closeness = buffer[::-1].astype(np.float64)
        if self._context.readDepthMap == self._mj.mjtDepthMap.mjDEPTH_ZERONEAR.value:
            closeness = 1.0 - closeness
        model = self._tabletop.model
        near, far = (plane * model.stat.extent for plane in (model.vis.map.znear, model.vis.map.zfar))
        depth = near * far / (near + closeness * (far - near))
        return np.where(closeness > 0, depth, np.inf).astype(np.float32)

    def _draw_image(self) -> NDArray[np.uint8]:
        self._drawing.flags[self._mj.mjtRndFlag.mjRND_SHADOW] = int(self.shadows)
        return np.ascontiguousarray(self._read())

    def _draw_labels(self) -> NDArray[np.int8]:
        """A label per pixel, int8 [H, W]: the same scene drawn again with a colour for each geom."""
        flags = self._mj.mjtRndFlag
        kept = self._drawing.flags.copy()
        self._drawing.flags[flags.mjRND_SHADOW] = 0
        self._drawing.flags[flags.mjRND_SKYBOX] = 0
        self._drawing.flags[flags.mjRND_SEGMENT] = 1
        self._drawing.flags[flags.mjRND_IDCOLOR] = 1
        try:
            pixels = self._read()
        finally:
            self._drawing.flags[:] = kept
        geom_type = int(self._mj.mjtObj.mjOBJ_GEOM)
        label_of = np.full(self._drawing.ngeom + 1, -1, np.int8)  # 0 is the background
        for geom in self._drawing.geoms[: self._drawing.ngeom]:
            if geom.segid >= 0 and geom.objtype == geom_type:
                label_of[geom.segid + 1] = self._tabletop.geom_labels[geom.objid]
        if len(label_of) <= 256:  # the usual case: the number sits in the red channel alone
            return label_of[pixels[..., 0]]
        return label_of[pixels[..., 0] + pixels[..., 1] * np.int32(256)]

    def _label(
        self, scene: Scene, image: NDArray[np.uint8], labels: NDArray[np.int8], depth_m: NDArray[np.float32] | None
    ) -> LabelledFrame:
        found = regions(labels, OBSTACLE_LABEL + 1)
        view = self.view()
        seen: list[tuple[int, SeenObject]] = []
        for index, thing in enumerate(scene.objects):
            region = found[index]
            if region is None or region.pixels < MIN_VISIBLE_PX:
                continue
            position, rotation = self._tabletop.object_pose(index)
            whole = silhouette_px(thing.shape, thing.radius_m, thing.height_m, position, rotation, view)
            distance = float(np.linalg.norm(position - view.position))
            fraction = min(1.0, region.pixels / max(whole, 1.0))
            seen.append((index, SeenObject(thing.shape, thing.colour, region.box, distance, region.pixels, fraction)))
        seen.sort(key=lambda pair: pair[1].box)
        instance_of = np.full(256, -1, np.int16)
        for instance, (index, _) in enumerate(seen):
            instance_of[index] = instance
        person, obstacle = (
            region.box if region is not None and region.pixels >= MIN_VISIBLE_PX else None
            for region in (found[PERSON_LABEL], found[OBSTACLE_LABEL])
        )
        objects = tuple(thing for _, thing in seen)
        return LabelledFrame(image, objects, person, obstacle, instance_of[labels.view(np.uint8)], depth_m)

    def close(self) -> None:
        """Free GL; may be called twice."""
        if self._gl is not None:
            self._gl.make_current()
            self._context.free()
            self._gl.free()
            self._gl = self._context = None

    def __enter__(self: Renderer) -> Renderer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
