"""A learned head's place: flow matching over what EXAONE sees and the proprioception.

A stub in the sense that counts: it proves the way from recorded episodes through training and export to the gate. What
`python -m exaone_ros.training.flow_head` makes is far too small, and trained on far too little, to be a policy. The
interface is what a real one would use.

A network gives the velocity at which normalised actions move from noise (time 0) to the answer (time 1); Euler steps
follow it (Lipman et al., "Flow Matching for Generative Modeling", 2023). What is as good as done is put back at each
step, so that the rest continues from it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exaone_ros.action.chunk import ActionChunk
from exaone_ros.action.heads.base import committed, followed
from exaone_ros.action.observation import Observation
from exaone_ros.action.spec import ActionSpec
from exaone_ros.action.statistics import QUANTILES, Statistics
from exaone_ros.errors import ActionError, DatasetError

GRAPH, CARD = "head.onnx", "head.json"
FORMAT = 1

Encoder = Callable[[NDArray[np.uint8], str], NDArray[np.float32]]
"""uint8 RGB [H, W, 3] and the instruction -> features float32 [T, D]."""

Velocity = Callable[[Mapping[str, NDArray[np.float32]]], NDArray[np.float32]]
"""features [1, T, D], state [1, S], actions [1, H, A], time [1] -> velocity [1, H, A]."""


@dataclass(frozen=True)
class FlowCard:
    """What a trained head says of itself, in `head.json` beside its graph.

    Attributes:
        spec: hash of the spec of the episodes it was trained on.
        embodiment: for messages.
        camera: whose images it looks at.
        features: `kind` and `source` of them, see `engine.features`.
        shape: [T, D] of the features.
        state, action: statistics that they are normalised with, as LeRobot writes them.
        trained: on how much, for people: episodes, samples, steps, loss.
        format: of this file.
    """

    spec: str
    embodiment: str
    camera: str
    features: Mapping[str, str]
    shape: tuple[int, int]
    state: Mapping[str, Any]
    action: Mapping[str, Any]
    trained: Mapping[str, float]
    format: int = FORMAT

    def write(self, directory: Path) -> None:
        """Write `head.json`."""
        (directory / CARD).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    @staticmethod
    def read(directory: Path) -> FlowCard:
        """Read `head.json`.

        Raises:
            ActionError: it is missing, damaged, or of another format.
        """
        path = directory / CARD
        try:
            entries = json.loads(path.read_text(encoding="utf-8"))
            if entries.get("format") != FORMAT:
                found = entries.get("format")
                raise ActionError(f"{path} is of format {found!r}; expected {FORMAT}: train the head anew")
            for key in ("state", "action"):
                Statistics.from_json(entries[key], key)
            tokens, depth = entries.pop("shape")
            return FlowCard(shape=(int(tokens), int(depth)), **entries)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, DatasetError) as error:
            if isinstance(error, ActionError):
                raise
            raise ActionError(f"{path} is no card of a flow head: {error}") from error


class FlowHead:
    """Integrates a velocity field into chunks.

    Args:
        card: of the trained head.
        spec: of the robot; must be the one that the head was trained for.
        velocity: the network.
        encode: makes the features that the head was trained on.
        steps: of the integration.
        seed: of the noise; the same observation gives the same chunk.

    Raises:
        ActionError: the head is for another robot.
    """

    name = "flow_stub"

    def __init__(
        self, card: FlowCard, spec: ActionSpec, velocity: Velocity, encode: Encoder, steps: int = 8, seed: int = 0
    ) -> None:
        if card.spec != spec.hash:
            raise ActionError(
                f"the head was trained for spec {card.spec} of '{card.embodiment}'; this robot's is {spec.hash} of "
                f"'{spec.embodiment}': use the robot file that its episodes were recorded with"
            )
        self.spec = spec
        self._card, self._velocity, self._encode, self._steps = card, velocity, encode, steps
        self._state, self._action = Statistics.from_json(card.state), Statistics.from_json(card.action)
        self._noise = np.random.default_rng(seed).standard_normal((spec.horizon, len(spec.joints))).astype(np.float32)

    def reset(self, observation: Observation) -> None:
        """Nothing to forget: each chunk comes from its observation alone."""

    def predict(self, observation: Observation, prefix: NDArray[np.float32], delay_steps: int) -> ActionChunk:
        spec, camera = self.spec, self._card.camera
        if camera not in observation.images:
            raise ActionError(f"flow head needs images of '{camera}'; the observation has {sorted(observation.images)}")
        features = self._encode(observation.images[camera], observation.task)
        if features.shape != self._card.shape:
            raise ActionError(
                f"features are {list(features.shape)}; the head was trained on {list(self._card.shape)}: its camera's "
                "images had another size"
            )
        past = committed(spec, observation, prefix, delay_steps)
        planned = self._integrate(features, self._state.normalised(observation.state, QUANTILES), past)
        # A network knows no limits, and the gate would refuse what leaves them.
        lawful = followed(spec, past, planned[len(past) :])
        return ActionChunk.make(spec, observation, lawful, observation.stamp_ns, self.name)

    def _integrate(
        self, features: NDArray[np.float32], state: NDArray[np.float32], past: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """From noise to actions [H, A] in physical units that begin with `past`."""
        done, actions = self._action.normalised(past, QUANTILES), self._noise.copy()
        fixed = {"features": features[None], "state": state[None]}
        for step in range(self._steps):
            time = step / self._steps
            actions[: len(past)] = (1 - time) * self._noise[: len(past)] + time * done
            moment = {"actions": actions[None], "time": np.array([time], np.float32)}
            actions = actions + self._velocity(fixed | moment)[0] / self._steps
        if not np.isfinite(actions).all():
            raise ActionError("the flow head's network gave numbers that are not finite; train it anew")
        return self._action.denormalised(actions, QUANTILES).astype(np.float64)
