"""The seam between a robot and a policy: the ActionHead protocol, and what scripted heads share."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from exaone_ros.action.chunk import ActionChunk
from exaone_ros.action.observation import Observation
from exaone_ros.action.spec import ActionSpec
from exaone_ros.errors import ActionError

SPEED_SHARE = 0.95
"""Of the velocity limits that heads keep to themselves: what is left absorbs the rounding to float32."""

ARRIVED = 2e-3
"""Radians or metres from its last position at which a joint has arrived."""


class ActionHead(Protocol):
    """Makes chunks of actions. One thread at a time calls it; it may take as long as it takes.

    Attributes:
        name: of the head, in topics and logs. Heads that only stand in for a policy have ``stub`` in their name.
        spec: the action space it works for.
    """

    name: str
    spec: ActionSpec

    def reset(self, observation: Observation) -> None:
        """Forget the last goal; `observation` is the first one of the new goal.

        Raises:
            ActionError: the goal cannot be worked on, e.g. there is no target to reach for.
        """
        ...

    def predict(self, observation: Observation, prefix: NDArray[np.float32], delay_steps: int) -> ActionChunk:
        """The next H actions, the first of them due at `observation.stamp_ns`.

        Args:
            observation: checked against the spec by the caller; its images are shared and not to be written into.
            prefix: float32 [P, A], what is going to be carried out at stamp + i * dt if no new chunk arrives; empty
                before the first chunk.
            delay_steps: how many actions will have passed before the chunk can be used. These are as good as done:
                a head does well to continue smoothly from ``prefix[delay_steps]`` (real-time chunking).

        Raises:
            ActionError: no chunk can be made; the goal ends and the robot holds its position.
        """
        ...


def committed(
    spec: ActionSpec, observation: Observation, prefix: NDArray[np.float32], delay_steps: int
) -> NDArray[np.float64]:
    """What the robot will be told to do up to the moment when a new chunk can take over.

    Returns:
        float64 [delay_steps + 1, A]; the last row is where the new chunk starts. Positions are kept inside the limits,
        as a measured position may stand a little outside.
    """
    plan: NDArray[np.float64] = np.asarray(prefix, np.float64)
    if len(plan) == 0:
        plan = spec.positions_from_state(observation.state)[None]
    if plan.ndim != 2 or plan.shape[1] != len(spec.joints):
        raise ActionError(f"prefix has shape {list(plan.shape)}; expected [P, {len(spec.joints)}]")
    wanted = delay_steps + 1
    if len(plan) < wanted:
        plan = np.concatenate([plan, np.repeat(plan[-1:], wanted - len(plan), axis=0)])
    return np.clip(plan[:wanted], spec.lower, spec.upper).astype(np.float64)


def steps_ahead(spec: ActionSpec, past: NDArray[np.float64]) -> NDArray[np.float64]:
    """Seconds after the last row of `past` (from `committed`) of the actions that a chunk still has room for."""
    return np.arange(1, spec.horizon - len(past) + 1, dtype=np.float64) * spec.dt_s


def followed(spec: ActionSpec, past: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.float64]:
    """`past` [P, A], then `wanted` [F, A] followed from there as fast as the limits allow.

    What is under way is seldom exactly what the head would have done: the queue slides over seams, and a chunk that
    came late was begun in its middle. A head that leapt back to its own way would be refused for its speed.
    """
    reach = SPEED_SHARE * spec.max_velocity * spec.dt_s
    result = np.concatenate([past, np.clip(wanted, spec.lower, spec.upper)])
    for i in range(len(past), len(result)):
        result[i] = result[i - 1] + np.clip(result[i] - result[i - 1], -reach, reach)
    return result
