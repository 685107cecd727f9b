"""The same observation and chunk in the words of LeRobot, openpi and GR00T, on small data."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from exaone_ros.action import schemas
from exaone_ros.action.observation import Observation
from exaone_ros.action.spec import ActionSpec
from exaone_ros.action.statistics import Statistics
from exaone_ros.errors import ActionError, DatasetError

SPEC = ActionSpec.make_example()
RANDOM = np.random.default_rng(1)
OBSERVATION = dataclasses.replace(
    Observation.make_example(SPEC), images={"head": RANDOM.integers(0, 256, (48, 64, 3), np.uint8)}
)
ACTIONS = RANDOM.uniform(0, 0.03, (SPEC.horizon, 3)).astype(np.float32)


def test_lerobot_features() -> None:
    features = schemas.lerobot_features(SPEC, {"head": (48, 64)})
    assert features["observation.state"]["names"] == ["shoulder", "elbow", "finger"]
    assert features["action"]["shape"] == [3]
    assert features["observation.images.head"]["shape"] == [48, 64, 3]
    assert features["observation.images.head"]["dtype"] == "video"
    with pytest.raises(DatasetError, match="camera 'head' of the spec has no image shape"):
        schemas.lerobot_features(SPEC, {})
    with pytest.raises(DatasetError, match="holds '/'"):
        schemas.lerobot_features(dataclasses.replace(SPEC, cameras=("a/b",)), {"a/b": (1, 1)})


def test_lerobot_there_and_back() -> None:
    frame = schemas.to_lerobot(OBSERVATION, ACTIONS[0])
    assert frame["action"].tolist() == ACTIONS[0].tolist()
    back = schemas.from_lerobot(frame, OBSERVATION.stamp_ns)
    back.check(SPEC)
    assert back.task == "pick the red cube"
    # As a LeRobot dataset gives it: channels first, 0..1.
    as_read = {
        **frame,
        "observation.images.head": frame["observation.images.head"].transpose(2, 0, 1) / np.float32(255),
    }
    again = schemas.from_lerobot(as_read)
    assert (again.images["head"] == OBSERVATION.images["head"]).all()
    with pytest.raises(ActionError, match="expected uint8"):
        schemas.from_lerobot({**frame, "observation.images.head": np.zeros((4, 4))})
    with pytest.raises(ActionError, match=r"no 'observation\.state'"):
        schemas.from_lerobot({})


def test_openpi_there_and_back() -> None:
    sent = schemas.to_openpi(OBSERVATION, {"head": "image"})
    assert set(sent) == {"observation/state", "observation/image", "prompt"}
    assert sent["observation/image"].dtype == np.uint8
    padded = np.concatenate([ACTIONS, np.zeros((SPEC.horizon, 29), np.float32)], axis=1)  # openpi pads to 32
    chunk = schemas.from_openpi(SPEC, OBSERVATION, {"actions": padded}, "pi0")
    assert (chunk.actions == ACTIONS).all()
    assert chunk.t0_ns == OBSERVATION.stamp_ns
    with pytest.raises(ActionError, match="no image of camera 'wrist'"):
        schemas.to_openpi(OBSERVATION, {"wrist": "wrist_image"})
    with pytest.raises(ActionError, match=r"actions \[3, 3\]; expected at least \[16, 3\]"):
        schemas.from_openpi(SPEC, OBSERVATION, {"actions": ACTIONS[:3]}, "pi0")


def test_openpi_norm_stats_there_and_back() -> None:
    stats = {"observation.state": Statistics.of(ACTIONS * 2), "action": Statistics.of(ACTIONS)}
    text = schemas.to_openpi_norm_stats(stats)
    entry = json.loads(text)["norm_stats"]["actions"]
    assert set(entry) == {"mean", "std", "q01", "q99"}
    back = schemas.from_openpi_norm_stats(text)
    assert back["action"].normalised(ACTIONS, "quantiles") == pytest.approx(
        stats["action"].normalised(ACTIONS, "quantiles")
    )
    with pytest.raises(DatasetError, match=r"lack 'action'; have \['observation.state'\]"):
        schemas.to_openpi_norm_stats({"observation.state": stats["action"]})
    with pytest.raises(DatasetError, match=r"not openpi's norm_stats\.json"):
        schemas.from_openpi_norm_stats("{}")


def test_gr00t_modality_and_chunk() -> None:
    modality = schemas.gr00t_modality(SPEC)
    assert modality["action"]["hand"] == {"start": 2, "end": 3, "absolute": True}
    assert modality["state"]["arm"] == {"start": 0, "end": 2}
    assert modality["video"] == {"head": {"original_key": "observation.images.head"}}
    assert modality["annotation"] == {"human.action.task_description": {}}
    sent = schemas.to_gr00t(SPEC, OBSERVATION)
    assert sent["video.head"].shape == (1, 48, 64, 3)
    assert sent["state.arm"].shape == (1, 2)
    assert sent["annotation.human.action.task_description"] == ["pick the red cube"]
    chunk = schemas.from_gr00t(
        SPEC, OBSERVATION, {"action.arm": ACTIONS[:, :2], "action.hand": ACTIONS[:, 2:]}, "gr00t"
    )
    assert (chunk.actions == ACTIONS).all()


def test_gr00t_refusals() -> None:
    with pytest.raises(ActionError, match=r"'action\.hand' \[0\]; expected \[16, 1\]"):
        schemas.from_gr00t(SPEC, OBSERVATION, {"action.arm": ACTIONS[:, :2]}, "gr00t")
    partial = dataclasses.replace(SPEC, slices=(("arm", 0, 2),))
    with pytest.raises(ActionError, match="no slice covers joint 'finger'"):
        schemas.from_gr00t(partial, OBSERVATION, {"action.arm": ACTIONS[:, :2]}, "gr00t")


def test_gr00t_state_that_is_more_than_the_joints_is_one_part() -> None:
    spec = dataclasses.replace(SPEC, state=(*SPEC.joint_names, "force"), slices=())
    modality = schemas.gr00t_modality(spec)
    assert modality["state"] == {"state": {"start": 0, "end": 4}}
    assert modality["action"] == {"joints": {"start": 0, "end": 3, "absolute": True}}
