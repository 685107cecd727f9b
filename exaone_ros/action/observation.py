"""What a head sees: the robot's state, images, the instruction, and the object that a decision chose.

Units as in `spec`: radians, metres, nanoseconds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exaone_ros.action.spec import NS, ActionSpec
from exaone_ros.errors import ActionError

_NO_NUMBERS = "cSUMm"
"""Kinds of dtypes that NumPy would make into float32 all the same: complex, texts, dates."""


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
        object.__setattr__(self, "state", read_only(self.state, "observation state", 1))
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


def read_only(value: Any, what: str, dimensions: int) -> NDArray[np.float32]:
    """A read-only float32 copy with the given number of dimensions.

    Raises:
        ActionError: `value` holds something else than real numbers (NaN and infinity pass), or has another shape.
    """
    try:
        given = np.asanyarray(value)
        if given.dtype.kind in _NO_NUMBERS or np.ma.is_masked(given):
            found = "masked entries" if np.ma.is_masked(given) else f"values of type {given.dtype}"
            raise ActionError(f"{what}: {type(value).__name__} is not an array of numbers: it has {found}")
        array = np.array(given, dtype=np.float32)
    except ActionError:
        raise
    except (TypeError, ValueError) as error:
        raise ActionError(f"{what}: {type(value).__name__} is not an array of numbers: {error}") from error
    if array.ndim != dimensions or 0 in array.shape:
        raise ActionError(f"{what} has shape {list(array.shape)}; expected {dimensions} dimensions, none of them empty")
    array.setflags(write=False)
    return array
