"""What a head returns: a chunk of actions, timed and signed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from exaone_ros.action.observation import Observation, read_only
from exaone_ros.action.spec import ActionSpec
from exaone_ros.action.words import printable
from exaone_ros.errors import ActionError


@dataclass(frozen=True, eq=False)
class ActionChunk:
    """H actions in a row: joint positions in physical units.

    Only its form is checked here, not its values: heads are not trusted, the gate judges what they return.

    Attributes:
        actions: float32 [H, A].
        t0_ns: when the first action is due, in the clock of the observation's stamps.
        dt_ns: nanoseconds between two actions, > 0.
        spec_hash: `ActionSpec.hash` of the spec it was made for.
        observed_ns: stamp of the oldest part of the observation it was made from.
        head: name of the head that made it.
        done: the head says that the task is done when this chunk has been carried out.

    Raises:
        ActionError: a part is of another type, `actions` are no matrix, or dt is not above 0.
    """

    actions: NDArray[np.float32]
    t0_ns: int
    dt_ns: int
    spec_hash: str
    observed_ns: int
    head: str = ""
    done: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.head, str) or not isinstance(self.spec_hash, str):
            raise ActionError(f"chunk of head {self.head!r} for spec {self.spec_hash!r}; expected two texts")
        for what in ("head", "spec_hash"):  # they go into messages
            object.__setattr__(self, what, printable(getattr(self, what)))
        object.__setattr__(self, "actions", read_only(self.actions, f"chunk actions of head '{self.head}'", 2))
        for what in ("t0_ns", "dt_ns", "observed_ns"):
            value = getattr(self, what)
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
                raise ActionError(f"chunk of head '{self.head}': {what} is {value!r}; expected whole nanoseconds")
            object.__setattr__(self, what, int(value))
        if not isinstance(self.done, (bool, np.bool_)):
            raise ActionError(f"chunk of head '{self.head}': done is {self.done!r}; expected True or False")
        object.__setattr__(self, "done", bool(self.done))
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
            actions=np.asanyarray(actions),
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
