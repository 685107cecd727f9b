"""The flow head around its network: the network here is a formula, so that what the head does can be foreseen."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from exaone_ros.action.gate import Gate
from exaone_ros.action.heads.flow import CARD, FlowCard, FlowHead
from exaone_ros.action.observation import Observation
from exaone_ros.action.spec import NS, ActionSpec
from exaone_ros.action.statistics import QUANTILES, Statistics
from exaone_ros.errors import ActionError

SPEC = dataclasses.replace(ActionSpec.make_example(), horizon=8, execute=4)
STATE = np.array([0.1, -0.5, 0.01], np.float32)
GOAL = np.array([0.3, -0.5, 0.01])
NOTHING = np.empty((0, 3), np.float32)
SPREAD = Statistics.of(np.random.default_rng(0).uniform(SPEC.lower, SPEC.upper, (200, 3)))
CARD_OF = FlowCard(
    spec=SPEC.hash, embodiment=SPEC.embodiment, camera="head", features={"kind": "colour_grid", "source": ""},
    shape=(4, 3), state=SPREAD.to_json(), action=SPREAD.to_json(), trained={"episodes": 1},
)  # fmt: skip


def encode(image: NDArray[np.uint8], instruction: str) -> NDArray[np.float32]:
    return np.zeros((4, 3), np.float32)


def towards_goal(inputs: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    """The straight flow that ends at GOAL whatever it starts from."""
    left = 1 - float(inputs["time"][0])
    return (SPREAD.normalised(GOAL, QUANTILES) - inputs["actions"]) / left


def observation(**changes: object) -> Observation:
    image = np.zeros((32, 32, 3), np.uint8)
    made = Observation(STATE, NS, {"head": image}, {"head": NS}, task="pick it")
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def test_follows_the_flow_within_the_limits() -> None:
    head = FlowHead(CARD_OF, SPEC, towards_goal, encode)
    chunk = head.predict(observation(), NOTHING, 0)
    assert chunk.actions[-1] == pytest.approx(GOAL, abs=1e-3)
    gate = Gate(SPEC)
    assert gate.open(STATE, NS) is None
    assert gate.check(chunk, NS) is None


def test_goes_on_from_what_is_under_way() -> None:
    prefix = np.linspace(STATE, STATE + np.array([0.1, 0.0, 0.0]), 8).astype(np.float32)
    chunk = FlowHead(CARD_OF, SPEC, towards_goal, encode).predict(observation(), prefix, 3)
    assert chunk.actions[:4] == pytest.approx(prefix[:4], abs=1e-6)
    assert chunk.actions[-1, 0] > prefix[-1, 0]


def test_what_is_under_way_is_put_back_at_each_step() -> None:
    seen: list[NDArray[np.float32]] = []

    def velocity(inputs: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        seen.append(inputs["actions"][0, :3].copy())
        return np.zeros((1, 8, 3), np.float32)

    prefix = np.repeat(STATE[None], 8, axis=0)
    FlowHead(CARD_OF, SPEC, velocity, encode, steps=100).predict(observation(), prefix, 2)
    assert len(seen) == 100
    assert seen[-1] == pytest.approx(SPREAD.normalised(prefix[:3], QUANTILES), abs=0.05)


def test_a_wild_network_stays_lawful_and_a_broken_one_is_named() -> None:
    wild = FlowHead(CARD_OF, SPEC, lambda inputs: np.full((1, 8, 3), 1e6, np.float32), encode)
    gate = Gate(SPEC)
    assert gate.open(STATE, NS) is None
    assert gate.check(wild.predict(observation(), NOTHING, 0), NS) is None
    broken = FlowHead(CARD_OF, SPEC, lambda inputs: np.full((1, 8, 3), np.nan, np.float32), encode)
    with pytest.raises(ActionError, match="not finite; train it anew"):
        broken.predict(observation(), NOTHING, 0)


def test_the_same_observation_gives_the_same_chunk() -> None:
    first, second = (FlowHead(CARD_OF, SPEC, towards_goal, encode, steps=3).predict(observation(), NOTHING, 1)
                     for _ in range(2))  # fmt: skip
    assert (first.actions == second.actions).all()


def test_refusals() -> None:
    with pytest.raises(ActionError, match="was trained for spec"):
        FlowHead(CARD_OF, dataclasses.replace(SPEC, fps=10.0), towards_goal, encode)
    head = FlowHead(CARD_OF, SPEC, towards_goal, encode)
    with pytest.raises(ActionError, match="needs images of 'head'"):
        head.predict(observation(images={}, image_stamps_ns={}), NOTHING, 0)
    other = FlowHead(CARD_OF, SPEC, towards_goal, lambda image, instruction: np.zeros((5, 3), np.float32))
    with pytest.raises(ActionError, match=r"features are \[5, 3\]; the head was trained on \[4, 3\]"):
        other.predict(observation(), NOTHING, 0)


def test_the_card_is_read_back_and_damage_is_named(tmp_path: Path) -> None:
    CARD_OF.write(tmp_path)
    assert FlowCard.read(tmp_path) == CARD_OF
    entries = json.loads((tmp_path / CARD).read_text())
    for change, words in (
        ({"format": 99}, "is of format 99; expected 1"),
        ({"shape": [3]}, "is no card of a flow head"),
        ({"state": {}}, "'mean' is missing"),
        ({"colour": "red"}, "unexpected keyword argument 'colour'"),
    ):
        (tmp_path / CARD).write_text(json.dumps(entries | change))
        with pytest.raises(ActionError, match=words):
            FlowCard.read(tmp_path)
    (tmp_path / CARD).write_text("[]")
    with pytest.raises(ActionError, match="is no card of a flow head"):
        FlowCard.read(tmp_path)
