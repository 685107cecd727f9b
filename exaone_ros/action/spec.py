"""What passes between a robot and a head: the spec of an action space, observations, and chunks of actions.

All values are in physical units: radians (revolute) or metres (prismatic joints), seconds, nanoseconds where a name
ends in `_ns`. Normalisation is a head's own business and never crosses this seam.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from exaone_ros.errors import ActionError

MAX_JOINTS = 256
MAX_HORIZON = 1000
NS = 1_000_000_000
"""Nanoseconds in a second."""


@dataclass(frozen=True)
class Joint:
    """One commanded joint.

    Attributes:
        name: as in JointState and JointTrajectory.
        lower, upper: position limits, radians or metres, lower < upper.
        max_velocity: radians or metres per second, > 0.
    """

    name: str
    lower: float
    upper: float
    max_velocity: float

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip():
            raise ActionError(f"joint name is {self.name!r}; expected the name of a joint")
        for what in ("lower", "upper", "max_velocity"):
            value = getattr(self, what)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                raise ActionError(f"joint '{self.name}': {what} is {value!r}; expected a finite number")
            object.__setattr__(self, what, float(value))  # 1 and 1.0 must not give two hashes
        if self.lower >= self.upper:
            raise ActionError(f"joint '{self.name}': lower {self.lower:g} is not below upper {self.upper:g}")
        if self.max_velocity <= 0:
            raise ActionError(f"joint '{self.name}': max_velocity is {self.max_velocity:g}; expected more than 0")


@dataclass(frozen=True)
class ActionSpec:
    """The action space of one embodiment: what a head must produce and a robot accepts.

    Attributes:
        embodiment: name of the robot and its set-up, e.g. ``tabletop_humanoid/right_arm``.
        fps: actions per second; the control rate.
        horizon: actions in one chunk (H).
        execute: actions of a chunk that are carried out before the next chunk is due, 1..horizon.
        joints: the commanded joints; their number is A.
        state: names of the entries of `Observation.state` (S); the joints' own names where not given.
        cameras: names of the images that an observation must have.
        slices: named parts of the action, [start, stop), e.g. ``(("arm", 0, 6), ("hand", 6, 8))``: GR00T asks for them.
    """

    embodiment: str
    fps: float
    horizon: int
    execute: int
    joints: tuple[Joint, ...]
    state: tuple[str, ...] = ()
    cameras: tuple[str, ...] = ()
    slices: tuple[tuple[str, int, int], ...] = ()

    def __post_init__(self) -> None:
        what = f"action spec '{self.embodiment}'"
        if not isinstance(self.embodiment, str) or not self.embodiment.strip():
            raise ActionError(f"embodiment is {self.embodiment!r}; expected a name")
        if not isinstance(self.fps, (int, float)) or not 0.1 <= self.fps <= 1000:
            raise ActionError(f"{what}: fps is {self.fps!r}; expected 0.1 to 1000 actions per second")
        object.__setattr__(self, "fps", float(self.fps))
        if isinstance(self.horizon, bool) or not isinstance(self.horizon, int) or not 1 <= self.horizon <= MAX_HORIZON:
            raise ActionError(f"{what}: horizon is {self.horizon!r}; expected 1 to {MAX_HORIZON} actions")
        if isinstance(self.execute, bool) or not isinstance(self.execute, int) or not 1 <= self.execute <= self.horizon:
            raise ActionError(f"{what}: execute is {self.execute!r}; expected 1 to the horizon, {self.horizon}")
        object.__setattr__(self, "joints", tuple(self.joints))
        if not 1 <= len(self.joints) <= MAX_JOINTS:
            raise ActionError(f"{what}: has {len(self.joints)} joints; expected 1 to {MAX_JOINTS}")
        object.__setattr__(self, "state", tuple(self.state) or self.joint_names)
        object.__setattr__(self, "cameras", tuple(self.cameras))
        for kind, names in (("joint", self.joint_names), ("state", self.state), ("camera", self.cameras)):
            _refuse_twice(what, kind, names)
        object.__setattr__(self, "slices", tuple((str(n), int(a), int(b)) for n, a, b in self.slices))
        _refuse_twice(what, "slice", [name for name, _, _ in self.slices])
        for name, start, stop in self.slices:
            if not 0 <= start < stop <= len(self.joints):
                raise ActionError(
                    f"{what}: slice '{name}' is [{start}, {stop}); expected a part of [0, {len(self.joints)})"
                )

    @cached_property
    def joint_names(self) -> tuple[str, ...]:
        return tuple(joint.name for joint in self.joints)

    @property
    def dt_s(self) -> float:
        """Seconds between two actions."""
        return 1.0 / self.fps

    @cached_property
    def dt_ns(self) -> int:
        """Nanoseconds between two actions."""
        return round(NS / self.fps)

    @cached_property
    def lower(self) -> NDArray[np.float64]:
        """Lower position limits, float64 [A]."""
        return np.array([joint.lower for joint in self.joints])

    @cached_property
    def upper(self) -> NDArray[np.float64]:
        """Upper position limits, float64 [A]."""
        return np.array([joint.upper for joint in self.joints])

    @cached_property
    def max_velocity(self) -> NDArray[np.float64]:
        """Velocity limits, float64 [A]."""
        return np.array([joint.max_velocity for joint in self.joints])

    @cached_property
    def hash(self) -> str:
        """16 hex digits that change with anything in the spec: a chunk made for another spec is never carried out."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def positions_from_state(self, state: ArrayLike) -> NDArray[np.float64]:
        """The commanded joints' positions out of a state vector [S], float64 [A].

        Raises:
            ActionError: a joint is not among the state's names.
        """
        index = {name: i for i, name in enumerate(self.state)}
        missing = [name for name in self.joint_names if name not in index]
        if missing:
            raise ActionError(f"action spec '{self.embodiment}': joint '{missing[0]}' is not in the state {self.state}")
        return np.asarray(state, np.float64)[[index[name] for name in self.joint_names]]

    @staticmethod
    def make_example() -> ActionSpec:
        """A valid spec of a two-joint arm with a one-joint hand and one camera, for documentation and tests."""
        joints = (Joint("shoulder", -1.5, 1.5, 1.0), Joint("elbow", -2.0, 0.5, 1.0), Joint("finger", 0.0, 0.03, 0.05))
        return ActionSpec(
            embodiment="example_arm",
            fps=30.0,
            horizon=16,
            execute=8,
            joints=joints,
            cameras=("head",),
            slices=(("arm", 0, 2), ("hand", 2, 3)),
        )


@dataclass(frozen=True)
class Target:
    """The object that a decision chose, located in space.

    Attributes:
        label: what it is, e.g. ``red cube``.
        position: (x, y, z) in metres in the robot's base frame: the centre of the object's upper side, where a hand
            that comes from above would touch it.
        stamp_ns: of the image it was located on.
    """

    label: str
    position: tuple[float, float, float]
    stamp_ns: int

    def __post_init__(self) -> None:
        position = tuple(float(v) for v in self.position)
        if len(position) != 3 or not all(math.isfinite(v) for v in position):
            raise ActionError(f"target '{self.label}': position is {self.position!r}; expected three finite numbers")
        object.__setattr__(self, "position", position)


@dataclass(frozen=True, eq=False)
class Observation:
    """What a head sees at one moment.

    Attributes:
        state: float32 [S], in the order of `ActionSpec.state`.
        stamp_ns: when the state was measured, in the clock that chunks are timed by.
        images: camera name -> uint8 RGB [H, W, 3].
        image_stamps_ns: camera name -> stamp of its image.
        task: the instruction, e.g. ``pick the red cube``.
        target: the located object of the last decision, None where there is none.
    """

    state: NDArray[np.float32]
    stamp_ns: int
    images: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)
    image_stamps_ns: Mapping[str, int] = field(default_factory=dict)
    task: str = ""
    target: Target | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "state", _frozen(self.state, "observation state", 1))
        images = {}
        for name, image in self.images.items():
            array = np.asarray(image)
            if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
                raise ActionError(
                    f"observation image '{name}' is {array.dtype} {list(array.shape)}; expected uint8 RGB [H, W, 3]"
                )
            images[name] = array
        object.__setattr__(self, "images", MappingProxyType(images))
        object.__setattr__(self, "image_stamps_ns", MappingProxyType(dict(self.image_stamps_ns)))

    @property
    def oldest_ns(self) -> int:
        """Stamp of the oldest thing in it: what freshness is judged by."""
        return min([self.stamp_ns, *self.image_stamps_ns.values()])

    def check(self, spec: ActionSpec) -> None:
        """Refuse an observation that does not fit the spec.

        Raises:
            ActionError: state of another length or not finite, or a camera is missing.
        """
        if self.state.shape != (len(spec.state),):
            names = ", ".join(spec.state)
            raise ActionError(f"observation state has {len(self.state)} entries; expected {len(spec.state)}: {names}")
        if not np.isfinite(self.state).all():
            name = spec.state[int(np.argmin(np.isfinite(self.state)))]
            raise ActionError(f"observation state of '{name}' is not finite")
        for camera in spec.cameras:
            if camera not in self.images or camera not in self.image_stamps_ns:
                raise ActionError(f"observation has no image of camera '{camera}'; has {sorted(self.images)}")

    @staticmethod
    def make_example(spec: ActionSpec | None = None) -> Observation:
        """A valid observation for the spec (that of `ActionSpec.make_example()` where none is given)."""
        spec = spec or ActionSpec.make_example()
        middle = {j.name: (j.lower + j.upper) / 2 for j in spec.joints}
        return Observation(
            state=np.array([middle.get(name, 0.0) for name in spec.state], np.float32),
            stamp_ns=NS,
            images={camera: np.full((48, 64, 3), 127, np.uint8) for camera in spec.cameras},
            image_stamps_ns=dict.fromkeys(spec.cameras, NS),
            task="pick the red cube",
            target=Target("red cube", (0.5, 0.1, 0.85), NS),
        )


@dataclass(frozen=True, eq=False)
class ActionChunk:
    """H actions in a row: joint positions in physical units.

    Deliberately not checked against a spec here: heads are not trusted, the gate judges what they return.

    Attributes:
        actions: float32 [H, A].
        t0_ns: when the first action is due, in the clock of the observation's stamps.
        dt_ns: nanoseconds between two actions, > 0.
        spec_hash: `ActionSpec.hash` of the spec it was made for.
        observed_ns: stamp of the oldest part of the observation it was made from.
        head: name of the head that made it.
        done: the head says that the task is done when this chunk has been carried out.
    """

    actions: NDArray[np.float32]
    t0_ns: int
    dt_ns: int
    spec_hash: str
    observed_ns: int
    head: str = ""
    done: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "actions", _frozen(self.actions, "chunk actions", 2))
        if self.dt_ns <= 0:
            raise ActionError(f"chunk of head '{self.head}': dt is {self.dt_ns} ns; expected more than 0")

    @property
    def end_ns(self) -> int:
        """When its last action is due."""
        return self.t0_ns + (len(self.actions) - 1) * self.dt_ns

    @staticmethod
    def make(
        spec: ActionSpec, observation: Observation, actions: ArrayLike, t0_ns: int, head: str, done: bool = False
    ) -> ActionChunk:
        """A chunk timed and signed as the spec asks."""
        return ActionChunk(
            actions=np.asarray(actions, np.float32),
            t0_ns=t0_ns,
            dt_ns=spec.dt_ns,
            spec_hash=spec.hash,
            observed_ns=observation.oldest_ns,
            head=head,
            done=done,
        )

    @staticmethod
    def make_example(spec: ActionSpec | None = None) -> ActionChunk:
        """A valid chunk that holds the position of `Observation.make_example()`."""
        spec = spec or ActionSpec.make_example()
        observation = Observation.make_example(spec)
        hold = np.repeat(spec.positions_from_state(observation.state)[None], spec.horizon, axis=0)
        return ActionChunk.make(spec, observation, hold, observation.stamp_ns, "example")


def _frozen(value: Any, what: str, dimensions: int) -> NDArray[np.float32]:
    """A read-only float32 copy with the given number of dimensions."""
    try:
        array = np.array(value, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ActionError(f"{what}: {type(value).__name__} is not an array of numbers: {error}") from error
    if array.ndim != dimensions or 0 in array.shape:
        raise ActionError(f"{what} has shape {list(array.shape)}; expected {dimensions} dimensions, none of them empty")
    array.setflags(write=False)
    return array


def _refuse_twice(what: str, kind: str, names: Sequence[str]) -> None:
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if twice:
        raise ActionError(f"{what}: {kind} '{twice[0]}' is named twice; each may stand once")
