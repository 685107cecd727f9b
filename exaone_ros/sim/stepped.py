"""The world that stands still until it is told to go on: deterministic, and as fast as the machine. No rclpy.

Equal settings and equal calls give equal frames, byte for byte on one machine, however the time is cut into pieces.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

from exaone_ros.errors import SimulationError
from exaone_ros.sim.live import CameraMoment, LiveSettings, camera_of
from exaone_ros.sim.tabletop import TabletopRenderer
from exaone_ros.sim.trajectory import Trajectory
from exaone_ros.sim.world import (
    MAX_STEPS,
    STEP_S,
    TARGET_STEPS,
    JointStates,
    ObjectPose,
    Snapshot,
    World,
    render_snapshot,
)

_FIRST_TICK = 1
"""In ROS a time of 0 means that there is no time yet."""


@dataclass(frozen=True)
class Advance:
    """Attributes: simulated time that was reached, as a stamp; how many images were drawn on the way."""

    stamp_ns: int
    images: int


class SteppedSimulation:
    """Advances a world when asked to. One thread at a time calls its methods, and gets what they produce.

    OpenGL belongs to the thread that started it, so rendering has a thread of its own, which the others wait for.

    What falls due at the same step comes in this order: time, joints, objects, frame.

    Args:
        settings: what to simulate.
        on_frame: called with each frame: the k-th at the first step at or after k / rate_hz from the start, so that an
            advance by one period of the camera ends with a frame.
        on_joints: called at their rate with (stamp, states).
        on_step: called each 10 ms, before whatever falls due, and where an advance ends, with simulated seconds.
        on_objects: called at the camera's rate with (stamp, where everything is).
        wants_depth, wants_labels: asked before each frame: whether it is to have them.

    Raises:
        MissingExtra: MuJoCo is not installed.
    """

    def __init__(
        self,
        settings: LiveSettings,
        *,
        on_frame: Callable[[CameraMoment], None],
        on_joints: Callable[[int, JointStates], None],
        on_step: Callable[[float], None] = lambda time_s: None,
        on_objects: Callable[[int, tuple[ObjectPose, ...]], None] = lambda stamp_ns, objects: None,
        wants_depth: Callable[[], bool] = lambda: False,
        wants_labels: Callable[[], bool] = lambda: True,
    ) -> None:
        self.settings = settings
        self.world = World(settings.scene(0), settings.head_motion)
        self._on_frame, self._on_joints, self._on_step = on_frame, on_joints, on_step
        self._on_objects, self._wants_depth, self._wants_labels = on_objects, wants_depth, wants_labels
        self._open = ExitStack()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="render")
        self._renderer: TabletopRenderer | None = None
        self._begin()

    def _begin(self) -> None:
        self.world.step(_FIRST_TICK)
        self._tick = _FIRST_TICK
        self._frames = _Schedule(self.settings.rate_hz)
        self._joints = _Schedule(self.settings.joint_rate_hz)
        self._scenes = _Schedule(1 / self.settings.scene_period_s if self.settings.scene_period_s else 0.0)

    def start(self) -> None:
        """Open the renderer.

        Raises:
            MissingExtra: there is no OpenGL.
            SimulationError: the renderer refused the settings.
        """
        self._renderer = self._thread.submit(self._open.enter_context, camera_of(self.settings)).result()

    def stop(self) -> None:
        """Close the renderer; may be called twice."""
        if self._renderer is not None:
            self._renderer = None
            self._thread.submit(self._open.close).result()
        self._thread.shutdown()

    @property
    def stamp_ns(self) -> int:
        """Simulated time at which the world stands."""
        return round(self.time_s * 1e9)

    @property
    def time_s(self) -> float:
        """Simulated seconds at which the world stands; it begins at `STEP_S`."""
        return self._tick * STEP_S

    def set_trajectory(self, trajectory: Trajectory) -> None:
        """Follow a trajectory from now on."""
        self.world.set_trajectory(trajectory)

    def reset(self) -> None:
        """Begin anew: first scene, robot at home, simulated time from the start."""
        self.world.reset(self.settings.scene(0))
        self._begin()

    def advance(self, steps: int) -> Advance:
        """Go on by `steps` times STEP_S; everything that falls due has been handed over when this returns.

        Raises:
            SimulationError: not 1 to 100,000 steps, or the physics became unstable.
        """
        if not 1 <= steps <= MAX_STEPS:
            raise SimulationError(f"asked for {steps} steps; expected 1 to {MAX_STEPS} of {STEP_S * 1e3:g} ms each")
        end, images = self._tick + steps, 0
        while self._tick < end:
            chunk_end = self._tick - self._tick % TARGET_STEPS + TARGET_STEPS
            until = int(min(end, chunk_end, self._frames.tick, self._joints.tick, self._scenes.tick))
            self.world.step(until - self._tick)
            self._tick = until
            images += self._hand_over(last=until == end)
        return Advance(self.stamp_ns, images)

    def _hand_over(self, *, last: bool) -> int:
        """What falls due at this step; returns the number of images."""
        if self._scenes.due(self._tick):
            self.world.set_scene(self.settings.scene(self._scenes.number))
        frame_due, joints_due = self._frames.due(self._tick), self._joints.due(self._tick)
        if last or frame_due or joints_due or self._tick % TARGET_STEPS == 0:
            self._on_step(self.time_s)
        if joints_due:
            self._on_joints(self.stamp_ns, self.world.joint_states())
        if not frame_due:
            return 0
        snapshot = self.world.snapshot()
        self._on_objects(self.stamp_ns, snapshot.objects)
        if self._renderer is None:
            return 0
        moment = self._thread.submit(self._draw, self._renderer, snapshot).result()
        self._on_frame(moment)
        return 1

    def _draw(self, renderer: TabletopRenderer, snapshot: Snapshot) -> CameraMoment:
        frame = render_snapshot(renderer, snapshot, depth=self._wants_depth(), labels=self._wants_labels())
        return CameraMoment(self.stamp_ns, self.time_s, frame, renderer.view())


class _Schedule:
    """The steps at which something falls due: the first at or after 1 / rate, 2 / rate, ... from the world's first
    step; never at a rate of 0."""

    def __init__(self, rate_hz: float) -> None:
        self._period = 1 / (rate_hz * STEP_S) if rate_hz else math.inf
        self.number = 0
        """How often it has fallen due."""

    @property
    def tick(self) -> float:
        """The next such step."""
        return _FIRST_TICK + math.ceil((self.number + 1) * self._period - 1e-6) if self._period < math.inf else math.inf

    def due(self, tick: int) -> bool:
        """Whether it falls due at this step; asked once for each."""
        if tick < self.tick:
            return False
        self.number += 1
        return True
