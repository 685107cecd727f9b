"""The bundled episodes as others see them: LeRobot's frames, openpi's and GR00T's inputs, answers and statistics."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("av")

from exaone_ros.action import schemas
from exaone_ros.action.observation import Observation
from exaone_ros.action.recorder.reader import DatasetReader
from exaone_ros.action.statistics import MEAN_STD, QUANTILES

HEAD = schemas.IMAGES + "head"


@pytest.fixture(scope="module")
def dataset() -> DatasetReader:
    return DatasetReader(Path(__file__).parents[3] / "examples" / "tabletop_reach")


@pytest.fixture(scope="module")
def observation(dataset: DatasetReader) -> Observation:
    """The first frame of the second episode."""
    episode, image = dataset.episode(1), dataset.images(1, "head")[0]
    return Observation(episode.state[0], 0, {"head": image}, {"head": 0}, task=episode.tasks[0])


def test_lerobot_s_frame_and_back(observation: Observation, dataset: DatasetReader) -> None:
    frame = schemas.to_lerobot(observation, dataset.episode(1).action[0])
    assert set(frame) == {schemas.STATE, schemas.ACTION, HEAD, "task"}
    features = schemas.lerobot_features(dataset.spec, {"head": (240, 320)})
    for key, value in frame.items():
        if key != "task":
            assert list(value.shape) == features[key]["shape"]
            assert dataset.info["features"][key]["shape"] == features[key]["shape"]
    back = schemas.from_lerobot(frame)
    assert (back.state == observation.state).all()
    assert (back.images["head"] == observation.images["head"]).all()
    assert back.task == observation.task


def test_openpi_s_request_and_response(observation: Observation, dataset: DatasetReader) -> None:
    request = schemas.to_openpi(observation, {"head": "image"})
    assert set(request) == {"observation/state", "observation/image", "prompt"}
    assert request["prompt"].startswith("pick the ")
    horizon, joints = dataset.spec.horizon, len(dataset.spec.joints)
    recorded = dataset.episode(1).action[:horizon]
    padded = np.concatenate([recorded, np.zeros((horizon, 32 - joints), np.float32)], axis=1)  # as pi0 answers
    chunk = schemas.from_openpi(dataset.spec, observation, {"actions": padded}, "pi0")
    assert (chunk.actions == recorded).all()


def test_gr00t_s_parts_are_the_slices_of_the_spec(observation: Observation, dataset: DatasetReader) -> None:
    written = json.loads((dataset.root / "meta" / "modality.json").read_text())
    assert written == schemas.gr00t_modality(dataset.spec)
    request = schemas.to_gr00t(dataset.spec, observation)
    assert request["video.head"].shape == (1, 240, 320, 3)
    parts = np.concatenate([request[f"state.{name}"][0] for name, _, _ in dataset.spec.slices])
    assert (parts == observation.state).all()
    recorded = dataset.episode(1).action[: dataset.spec.horizon]
    response = {f"action.{name}": recorded[:, start:stop] for name, start, stop in dataset.spec.slices}
    assert (schemas.from_gr00t(dataset.spec, observation, response, "gr00t").actions == recorded).all()


def test_statistics_normalise_what_was_recorded(dataset: DatasetReader) -> None:
    statistics = dataset.statistics()
    actions = np.concatenate([dataset.episode(i).action for i in range(len(dataset))])
    standard = statistics[schemas.ACTION].normalised(actions, MEAN_STD)
    moving = actions.std(axis=0) > 1e-3
    assert np.abs(standard.mean(axis=0)).max() < 1e-2
    assert standard.std(axis=0)[moving] == pytest.approx(1.0, abs=1e-2)
    back = statistics[schemas.ACTION].denormalised(statistics[schemas.ACTION].normalised(actions, QUANTILES), QUANTILES)
    assert back == pytest.approx(actions, abs=1e-5)
    openpi = schemas.from_openpi_norm_stats(schemas.to_openpi_norm_stats(statistics))
    assert openpi[schemas.STATE].q99 == pytest.approx(statistics[schemas.STATE].q99)
