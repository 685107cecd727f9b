"""Specs, observations and chunks: what is valid, what is refused with which words, what the hash covers."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from exaone_ros.action.chunk import ActionChunk
from exaone_ros.action.observation import Observation, Target
from exaone_ros.action.spec import NS, ActionSpec, Joint
from exaone_ros.errors import ActionError


def test_examples_are_valid_together() -> None:
    spec = ActionSpec.make_example()
    Observation.make_example(spec).check(spec)
    chunk = ActionChunk.make_example(spec)
    assert chunk.actions.shape == (spec.horizon, len(spec.joints))
    assert chunk.spec_hash == spec.hash
    assert chunk.end_ns - chunk.t0_ns == (spec.horizon - 1) * spec.dt_ns


def test_hash_is_stable_and_covers_every_field() -> None:
    spec = ActionSpec.make_example()
    assert spec.hash == ActionSpec.make_example().hash
    assert len(spec.hash) == 16
    changes = {
        "embodiment": "other",
        "fps": 15.0,
        "horizon": 17,
        "execute": 7,
        "joints": (*spec.joints[:2], dataclasses.replace(spec.joints[2], upper=0.04)),
        "state": (*spec.joint_names, "gripper_force"),
        "cameras": (),
        "slices": (("arm", 0, 3),),
    }
    assert set(changes) == {f.name for f in dataclasses.fields(ActionSpec)}
    hashes = {dataclasses.replace(spec, **{name: value}).hash for name, value in changes.items()}
    assert len(hashes | {spec.hash}) == len(changes) + 1


def test_hash_does_not_depend_on_how_a_number_is_written() -> None:
    spec = ActionSpec.make_example()
    same = dataclasses.replace(spec, fps=30, joints=(Joint("shoulder", -1.5, 1.5, 1), *spec.joints[1:]))
    assert same.hash == spec.hash


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"embodiment": " "}, "embodiment"),
        ({"fps": 0}, "fps is 0; expected 0.1 to 1000"),
        ({"horizon": 0}, "horizon is 0"),
        ({"execute": 99}, "execute is 99; expected 1 to the horizon, 16"),
        ({"joints": ()}, "0 joints"),
        ({"joints": (Joint("a", 0, 1, 1), Joint("a", 0, 1, 1))}, "joint 'a' is named twice"),
        ({"slices": (("arm", 1, 9),)}, r"slice 'arm' is \[1, 9\)"),
        ({"cameras": ("head", "head")}, "camera 'head' is named twice"),
    ],
)
def test_bad_spec_is_refused_with_its_reason(change: dict, words: str) -> None:
    with pytest.raises(ActionError, match=words):
        dataclasses.replace(ActionSpec.make_example(), **change)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("", 0, 1, 1), "joint name"),
        (("a", float("nan"), 1, 1), "lower is nan"),
        (("a", 1, 0, 1), "lower 1 is not below upper 0"),
        (("a", 0, 1, 0), "max_velocity is 0"),
        (("a", 0, "1", 1), "upper is '1'"),
    ],
)
def test_bad_joint_is_refused(arguments: tuple, words: str) -> None:
    with pytest.raises(ActionError, match=words):
        Joint(*arguments)


def test_state_may_have_other_entries_and_another_order() -> None:
    spec = dataclasses.replace(ActionSpec.make_example(), state=("finger", "force", "elbow", "shoulder"))
    assert spec.positions_from_state([1, 2, 3, 4]).tolist() == [4, 3, 1]
    lacking = dataclasses.replace(spec, state=("force",))
    with pytest.raises(ActionError, match="joint 'shoulder' is not in the state"):
        lacking.positions_from_state([1])


def test_observation_is_checked_against_the_spec() -> None:
    spec = ActionSpec.make_example()
    good = Observation.make_example(spec)
    with pytest.raises(ActionError, match="2 entries; expected 3: shoulder, elbow, finger"):
        dataclasses.replace(good, state=np.zeros(2, np.float32)).check(spec)
    with pytest.raises(ActionError, match="'elbow' is not finite"):
        dataclasses.replace(good, state=np.array([0, np.nan, 0], np.float32)).check(spec)
    with pytest.raises(ActionError, match="no image of camera 'head'"):
        dataclasses.replace(good, images={}).check(spec)
    with pytest.raises(ActionError, match=r"float64 \[4, 4, 3\]; expected uint8 RGB"):
        dataclasses.replace(good, images={"head": np.zeros((4, 4, 3))})


def test_age_is_that_of_the_oldest_part() -> None:
    observation = Observation(np.zeros(1, np.float32), 5 * NS, {}, {"head": 3 * NS, "wrist": 4 * NS})
    assert observation.oldest_ns == 3 * NS


def test_values_cannot_be_changed_afterwards() -> None:
    source = np.zeros(3, np.float32)
    observation = Observation(source, 0)
    source[0] = 9
    assert observation.state[0] == 0
    with pytest.raises(ValueError, match="read-only"):
        observation.state[0] = 1
    with pytest.raises(TypeError):
        observation.images["head"] = np.zeros((1, 1, 3), np.uint8)  # type: ignore[index]
    spec = ActionSpec.make_example()
    for limits in (spec.lower, spec.upper, spec.max_velocity):  # the gate's own
        with pytest.raises(ValueError, match="read-only"):
            limits *= 2


def test_chunk_and_target_refuse_nonsense_of_form_but_not_of_value() -> None:
    with pytest.raises(ActionError, match="2 dimensions"):
        ActionChunk(np.zeros(3), 0, 1, "", 0)
    with pytest.raises(ActionError, match="dt is 0 ns"):
        ActionChunk(np.zeros((1, 1)), 0, 0, "", 0)
    with pytest.raises(ActionError, match="is not an array of numbers"):
        ActionChunk("abc", 0, 1, "", 0)  # type: ignore[arg-type]
    for change in ({"t0_ns": None}, {"observed_ns": "now"}, {"dt_ns": 0.5}, {"done": [True, False]}):
        values = {"actions": np.zeros((1, 1)), "t0_ns": 0, "dt_ns": 1, "spec_hash": "", "observed_ns": 0, **change}
        with pytest.raises(ActionError, match=f"{next(iter(change))} is .*; expected"):
            ActionChunk(**values)  # type: ignore[arg-type]
    with pytest.raises(ActionError, match="expected two texts"):
        ActionChunk(np.zeros((1, 1)), 0, 1, None, 0)  # type: ignore[arg-type]
    assert np.isnan(ActionChunk(np.full((1, 1), np.nan), 0, 1, "", 0).actions).all()  # the gate's matter
    with pytest.raises(ActionError, match="three finite numbers"):
        Target("cube", (0.0, float("inf"), 0.0), 0)


@pytest.mark.parametrize(
    ("actions", "found"),
    [
        (np.ones((1, 1)) + 1j, "values of type complex128"),
        (np.array([["0.1"]]), "values of type <U3"),
        (np.ma.masked_array([[0.0, 1.0]], mask=[[False, True]]), "masked entries"),
        (np.array([["2026-01-01"]], "datetime64[D]"), r"values of type datetime64\[D\]"),
    ],
)
def test_a_chunk_is_not_made_of_what_only_looks_like_numbers(actions: np.ndarray, found: str) -> None:
    spec = ActionSpec.make_example()
    with pytest.raises(ActionError, match=f"chunk actions of head 'h': .* is not an array of numbers: it has {found}"):
        ActionChunk.make(spec, Observation.make_example(spec), actions, 0, "h")
    assert ActionChunk(np.ma.masked_array([[0.5]], mask=False), 0, 1, "", 0).actions.tolist() == [[0.5]]


def test_names_that_are_no_utf8_become_escapes() -> None:
    chunk = ActionChunk(np.zeros((1, 1)), 0, 1, "\udc80", 0, head="policy \udcff")
    assert (chunk.spec_hash, chunk.head) == ("\\udc80", "policy \\udcff")
