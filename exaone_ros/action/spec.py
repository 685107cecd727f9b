"""The spec of an action space: what a head must produce and a robot accepts.

All values are in physical units: radians (revolute) or metres (prismatic joints), seconds, nanoseconds where a name
ends in `_ns`. Normalisation is a head's own business and never crosses this seam.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

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
        return _fixed(joint.lower for joint in self.joints)

    @cached_property
    def upper(self) -> NDArray[np.float64]:
        """Upper position limits, float64 [A]."""
        return _fixed(joint.upper for joint in self.joints)

    @cached_property
    def max_velocity(self) -> NDArray[np.float64]:
        """Velocity limits, float64 [A]."""
        return _fixed(joint.max_velocity for joint in self.joints)

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


def _fixed(values: Iterable[float]) -> NDArray[np.float64]:
    """A read-only array: the gate judges by it, and whoever has the spec has it, too."""
    array = np.array(list(values), np.float64)
    array.setflags(write=False)
    return array


def _refuse_twice(what: str, kind: str, names: Sequence[str]) -> None:
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if twice:
        raise ActionError(f"{what}: {kind} '{twice[0]}' is named twice; each may stand once")
