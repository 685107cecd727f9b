"""The world in real time: one thread steps its physics, another renders it; whoever listens gets values. No rclpy.

Frames are rendered at their rate as long as the machine keeps up; otherwise frames are left out, never queued. Physics
follows the wall clock; when it falls behind by more than `MAX_DEBT_S` (a suspended machine), that time is let go.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from exaone_ros.errors import SimulationError
from exaone_ros.sim.camera import Intrinsics, View
from exaone_ros.sim.frame import LabelledFrame
from exaone_ros.sim.sampling import SceneOptions, sample_scene
from exaone_ros.sim.scene import Scene
from exaone_ros.sim.tabletop import TabletopRenderer
from exaone_ros.sim.trajectory import Trajectory
from exaone_ros.sim.world import STEP_S, HeadMotion, JointStates, ObjectPose, World, render_snapshot

CHUNK_STEPS = 5
MAX_DEBT_S = 0.5


@dataclass(frozen=True)
class LiveSettings:
    """What to simulate.

    Attributes:
        width, height: of the images in pixels.
        rate_hz: of the camera, 0.1 to 120.
        joint_rate_hz: of the joint states, 1 to 100.
        seed: of the sequence of scenes.
        scene_period_s: simulated time until the table is laid anew; 0 = never.
        camera: render images; without them no OpenGL is needed.
        shadows, samples: as in TabletopRenderer.
        options: what a scene is drawn from.
        head_motion: how the head moves by itself.
        world: what stands on the table, in place of a scene drawn from `seed` and `options`; it is never laid anew.
    """

    width: int = 640
    height: int = 480
    rate_hz: float = 10.0
    joint_rate_hz: float = 50.0
    seed: int = 0
    scene_period_s: float = 0.0
    camera: bool = True
    shadows: bool = True
    samples: int = 0
    options: SceneOptions = field(default_factory=lambda: SceneOptions(fovy_deg=(48.0, 48.0), camera_jitter=0.0))
    head_motion: HeadMotion = field(default_factory=HeadMotion)
    world: Scene | None = None

    def __post_init__(self) -> None:
        ranges = {"rate_hz": (0.1, 120.0), "joint_rate_hz": (1.0, 100.0), "scene_period_s": (0.0, 86400.0)}
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if not (math.isfinite(value) and low <= value <= high):
                raise SimulationError(f"{name} is {value!r}; expected {low:g} to {high:g}")
        if self.seed < 0:
            raise SimulationError(f"seed is {self.seed}; expected 0 or more")
        if self.world is not None and self.scene_period_s:
            raise SimulationError(
                f"scene_period_s is {self.scene_period_s:g} and there is a world: a table that is laid by a file is "
                "not laid anew; leave one of them out"
            )

    def scene(self, index: int) -> Scene:
        """The scene of this number in the sequence of `seed`; with a `world`, always that."""
        if self.world is not None:
            return self.world
        return sample_scene(np.random.default_rng([self.seed, index]), self.options, self.width / self.height)

    def scene_of_seed(self, seed: int) -> Scene:
        """The scene that a seed alone stands for, as in `TabletopRenderer.render`."""
        return sample_scene(np.random.default_rng(seed), self.options, self.width / self.height)


@dataclass(frozen=True)
class CameraMoment:
    """Attributes: stamp and simulated time of the moment that was drawn; its labelled image; its camera."""

    stamp_ns: int
    time_s: float
    frame: LabelledFrame
    view: View

    @property
    def intrinsics(self) -> Intrinsics:
        return self.view.intrinsics


class LiveSimulation:
    """Runs a world in real time between `start` and `stop`.

    Args:
        settings: what to simulate.
        now_ns: stamp of a moment, given its simulated time in seconds; called with physics at rest.
        on_frame: called in the rendering thread with each frame.
        on_joints: called in the physics thread with (stamp, states).
        on_step: called in the physics thread after each chunk of steps with the simulated time in seconds.
        on_objects: called at the camera's rate with (stamp, where everything is), just before the frame of that stamp.
        on_failure: called in the failing thread when a thread dies of an error; the simulation has ended then.
        wants_depth, wants_labels: asked before each frame: whether it is to have them.

    Raises:
        MissingExtra: MuJoCo is not installed.
    """

    def __init__(
        self,
        settings: LiveSettings,
        *,
        now_ns: Callable[[float], int],
        on_frame: Callable[[CameraMoment], None],
        on_joints: Callable[[int, JointStates], None],
        on_step: Callable[[float], None] = lambda time_s: None,
        on_objects: Callable[[int, tuple[ObjectPose, ...]], None] = lambda stamp_ns, objects: None,
        on_failure: Callable[[BaseException], None],
        wants_depth: Callable[[], bool] = lambda: False,
        wants_labels: Callable[[], bool] = lambda: True,
    ) -> None:
        self.settings = settings
        self.world = World(settings.scene(0), settings.head_motion)
        self.world.step()  # in ROS a time of 0 means that there is no time yet
        self._now_ns, self._on_frame, self._on_joints, self._on_step = now_ns, on_frame, on_joints, on_step
        self._on_objects, self._on_failure = on_objects, on_failure
        self._wants_depth, self._wants_labels = wants_depth, wants_labels
        self._begin_anew = False
        self._stopping = threading.Event()
        self._moment = threading.Lock()  # stamp and state belong together: no step between the two
        self._ready: Future[None] = Future()
        self._threads = [
            threading.Thread(target=self._guarded, args=(self._render,), name="render", daemon=True),
            threading.Thread(target=self._guarded, args=(self._step,), name="physics", daemon=True),
        ]

    def start(self, timeout_s: float = 60.0) -> None:
        """Start both threads; returns when the renderer is ready.

        Raises:
            MissingExtra: there is no OpenGL.
            SimulationError: the renderer refused the settings.
            TimeoutError: OpenGL did not start in time.
        """
        render, physics = self._threads
        render.start()
        self._ready.result(timeout_s)
        physics.start()

    def stop(self, timeout_s: float = 2.0) -> bool:
        """End both threads; False if one is still busy after `timeout_s`."""
        self._stopping.set()
        deadline_s = time.monotonic() + timeout_s
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, deadline_s - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def set_trajectory(self, trajectory: Trajectory) -> None:
        """Follow a trajectory from now on."""
        self.world.set_trajectory(trajectory)

    def reset(self) -> None:
        """Begin anew: first scene, robot at home, simulated time from the start."""
        with self._moment:
            self.world.reset(self.settings.scene(0))
            self.world.step()
            self._begin_anew = True

    def _guarded(self, body: Callable[[], None]) -> None:
        try:
            body()
        except Exception as error:
            self._stopping.set()
            if not self._ready.done():
                self._ready.set_exception(error)  # `start` raises it
            else:
                self._on_failure(error)

    def _step(self) -> None:
        settings, world = self.settings, self.world
        chunk_s = CHUNK_STEPS * STEP_S
        joints_due_s, scene_index = 0.0, 0
        ahead_of = time.monotonic() - world.time_s  # wall time at simulated time 0
        while not self._stopping.is_set():
            with self._moment:
                if self._begin_anew:
                    self._begin_anew = False
                    joints_due_s, scene_index = 0.0, 0
                    ahead_of = time.monotonic() - world.time_s
                world.step(CHUNK_STEPS)
                time_s = world.time_s
                index = int(time_s / settings.scene_period_s) if settings.scene_period_s else 0
                if index != scene_index:  # within the moment, so that a stamp tells its scene
                    scene_index = index
                    world.set_scene(settings.scene(index))
                stamp_ns = self._now_ns(time_s)
                states = world.joint_states() if time_s >= joints_due_s else None
            self._on_step(time_s)
            if states is not None:
                joints_due_s = max(joints_due_s + 1 / settings.joint_rate_hz, time_s - chunk_s)
                self._on_joints(stamp_ns, states)
            lead_s = ahead_of + time_s - time.monotonic()
            if lead_s > 0:
                self._stopping.wait(lead_s)
            elif lead_s < -MAX_DEBT_S:
                ahead_of -= lead_s

    def _render(self) -> None:
        settings = self.settings
        with camera_of(settings) as renderer:
            self._ready.set_result(None)
            due_s, drawn_s = time.monotonic(), math.nan
            while not self._stopping.is_set():
                with self._moment:
                    snapshot = self.world.snapshot()
                    stamp_ns = self._now_ns(snapshot.time_s)
                if snapshot.time_s == drawn_s:  # physics got no share of the machine: not the same moment twice
                    self._stopping.wait(CHUNK_STEPS * STEP_S)
                    continue
                drawn_s = snapshot.time_s
                self._on_objects(stamp_ns, snapshot.objects)
                if renderer is not None:
                    frame = render_snapshot(renderer, snapshot, depth=self._wants_depth(), labels=self._wants_labels())
                    self._on_frame(CameraMoment(stamp_ns, snapshot.time_s, frame, renderer.view()))
                due_s = max(due_s + 1 / settings.rate_hz, time.monotonic() - 1 / settings.rate_hz)
                self._stopping.wait(max(0.0, due_s - time.monotonic()))


@contextmanager
def camera_of(settings: LiveSettings) -> Iterator[TabletopRenderer | None]:
    """The renderer that the settings ask for, for the thread that enters; None without a camera.

    Raises:
        MissingExtra: there is no OpenGL.
        SimulationError: a size out of range.
    """
    if not settings.camera:
        yield None
        return
    with TabletopRenderer(
        settings.width, settings.height, shadows=settings.shadows, samples=settings.samples
    ) as renderer:
        yield renderer


def example_settings(**changes: Any) -> LiveSettings:
    """Small and quick settings that are valid: for tests and first steps."""
    return LiveSettings(**{"width": 160, "height": 120, "rate_hz": 20.0, "shadows": False, **changes})
