"""A recorded dataset, loaded by the `lerobot` library itself. Runs where that is installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
pytest.importorskip("lerobot")

from action.recorder.test_writer import SHAPES, SPEC, frame, record, record_one_joint
from lerobot.datasets.lerobot_dataset import LeRobotDataset

from exaone_ros.action import schemas
from exaone_ros.action.gate import Gate
from exaone_ros.action.observation import Observation
from exaone_ros.action.recorder.reader import DatasetReader
from exaone_ros.action.recorder.writer import DatasetWriter
from exaone_ros.action.spec import NS


@pytest.mark.parametrize("codec", ["h264", "av1"])
def test_lerobot_loads_what_was_recorded(tmp_path: Path, codec: str) -> None:
    writer = DatasetWriter(tmp_path / "set", SPEC, SHAPES, codec)
    record(writer, 20)
    record(writer, 7, "pick the mug")
    writer.close()

    horizon = {"action": [i / 30 for i in range(4)]}
    dataset = LeRobotDataset("exaone/test", root=tmp_path / "set", delta_timestamps=horizon)
    assert (len(dataset), dataset.num_episodes, dataset.fps) == (27, 2, 30)
    item = dataset[9]
    assert item["task"] == "pick the red cube"
    assert item["decision"] == "red cube"
    assert item["observation.state"].numpy() == pytest.approx(frame(9)[0].state)
    assert item["action"].numpy() == pytest.approx(np.stack([frame(i)[1] for i in range(9, 13)]))
    assert dataset[20]["task"] == "pick the mug"
    assert dataset[26]["action_is_pad"].tolist() == [False, True, True, True]
    observation = schemas.from_lerobot({**item, "observation.state": item["observation.state"].numpy()})
    difference = observation.images["head"].astype(int) - frame(9)[0].images["head"]
    assert np.abs(difference).mean() < 8
    assert dataset.meta.stats is not None
    ours = DatasetReader(tmp_path / "set").statistics()
    assert dataset.meta.stats["action"]["q99"] == pytest.approx(ours["action"].q99)
    assert dataset.meta.stats["observation.images.head"]["mean"].shape == (3, 1, 1)


def test_lerobot_loads_the_bundled_episodes(repository: Path) -> None:
    root = repository / "examples" / "tabletop_reach"
    dataset, ours = LeRobotDataset("exaone/tabletop_reach", root=root), DatasetReader(root)
    assert (dataset.num_episodes, dataset.fps, len(dataset)) == (3, 10, 220)
    item, second = dataset[57], ours.episode(1)  # the first frame of the second episode
    assert item["task"] == second.tasks[0]
    assert item["observation.state"].numpy() == pytest.approx(second.state[0])
    assert item["action"].numpy() == pytest.approx(second.action[0])
    image = schemas.from_lerobot({**item, "observation.state": second.state[0]}).images["head"]
    assert np.abs(image.astype(int) - ours.images(1, "head")[0]).mean() < 2


def test_lerobot_loads_a_robot_of_one_joint(tmp_path: Path) -> None:
    record_one_joint(tmp_path / "set", 6)
    dataset = LeRobotDataset("exaone/one", root=tmp_path / "set", delta_timestamps={"action": [0.0, 1 / 30]})
    item = dataset[3]
    assert item["action"].numpy().ravel() == pytest.approx([0.06, 0.08])
    observation = schemas.from_lerobot({**item, "observation.state": item["observation.state"].numpy()})
    assert observation.state == pytest.approx([0.03])


def test_lerobot_can_go_on_recording(tmp_path: Path) -> None:
    writer = DatasetWriter(tmp_path / "set", SPEC, SHAPES)
    record(writer, 5)
    writer.close()
    dataset = LeRobotDataset("exaone/test", root=tmp_path / "set", vcodec="h264")
    for step in range(4):
        observation, action = frame(step)
        extra = {"decision": "", schemas.ANNOTATION: np.array([0])}
        dataset.add_frame({**schemas.to_lerobot(observation, action), **extra})
    dataset.save_episode()
    dataset.finalize()
    assert len(LeRobotDataset("exaone/test", root=tmp_path / "set")) == 9


def test_a_policy_that_lerobot_trained_is_a_head(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = shutil.copytree(repository / "examples" / "tabletop_reach", tmp_path / "set")
    small = {"dim_model": 64, "n_heads": 2, "dim_feedforward": 64, "pretrained_backbone_weights": "null"}
    policy = {"type": "act", "device": "cpu", "push_to_hub": "false", "chunk_size": 16, "n_action_steps": 16} | small
    command = [sys.executable, "-m", "lerobot.scripts.lerobot_train", "--dataset.repo_id=you/set", "--num_workers=0"]
    command += [f"--dataset.root={root}", f"--output_dir={tmp_path / 'RUN'}", "--steps=1", "--batch_size=2"]
    command += [f"--policy.{name}={value}" for name, value in policy.items()]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr[-2000:]

    page = (repository / "docs" / "vla.md").read_text(encoding="utf-8")
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "class MyPolicy" in block]
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(code, names)  # the page's own
    dataset = DatasetReader(root)
    spec, episode = dataset.spec, dataset.episode(0)
    image = dataset.images(0, "head")[0]
    observation = Observation(episode.state[0], NS, {"head": image}, {"head": NS}, task=episode.tasks[0])
    head = names["MyPolicy"](spec)
    head.reset(observation)
    gate = Gate(spec)
    assert gate.open(spec.positions_from_state(observation.state), NS) is None
    for delay in (0, 3):
        chunk = head.predict(observation, np.empty((0, len(spec.joints)), np.float32), delay)
        assert (chunk.head, chunk.actions.shape) == ("act", (spec.horizon, len(spec.joints)))
        assert gate.check(chunk, NS) is None
