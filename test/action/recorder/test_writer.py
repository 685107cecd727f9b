"""Recording: what is saved can be read, what is finished survives every kill, what does not fit is refused."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("av")

from exaone_ros.action.observation import Observation
from exaone_ros.action.recorder import layout, tables
from exaone_ros.action.recorder.reader import DatasetReader
from exaone_ros.action.recorder.writer import DatasetWriter, recover
from exaone_ros.action.spec import ActionSpec
from exaone_ros.errors import ActionError, DatasetError

SPEC = ActionSpec.make_example()
SHAPES = {"head": (48, 64)}


def frame(step: int, task: str = "pick the red cube") -> tuple[Observation, np.ndarray]:
    """A frame whose numbers tell which one it is."""
    image = np.zeros((48, 64, 3), np.uint8)
    image[:, : 4 * (step % 16)] = (200, 40, 40)
    state = np.array([0.01 * step, -0.01 * step, 0.001], np.float32)
    return Observation(state, step, {"head": image}, {"head": step}, task=task), state * 2


def record(writer: DatasetWriter, length: int, task: str = "pick the red cube") -> int:
    for step in range(length):
        writer.add_frame(*frame(step, task), decision="red cube" if step > 2 else "")
    return writer.save_episode()


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[DatasetWriter]:
    made = DatasetWriter(tmp_path / "set", SPEC, SHAPES)
    yield made
    made.close()


def test_what_was_recorded_can_be_read(writer: DatasetWriter) -> None:
    assert record(writer, 20) == 0
    assert record(writer, 7, "pick the mug") == 1
    assert record(writer, 5) == 2
    reader = DatasetReader(writer.root)
    assert len(reader) == 3
    assert reader.spec == SPEC
    episode = reader.episode(0)
    assert episode.state == pytest.approx(np.stack([frame(i)[0].state for i in range(20)]))
    assert episode.action == pytest.approx(episode.state * 2)
    assert episode.decisions[:4] == ("", "", "", "red cube")
    assert reader.episode(1).tasks == ("pick the mug",) * 7
    assert reader.episode(2).tasks == ("pick the red cube",) * 5
    images = reader.images(0, "head")
    assert images.shape == (20, 48, 64, 3)
    assert np.abs(images[9, 10, :30].astype(int) - (200, 40, 40)).mean() < 12  # lossy, but this frame and no other
    assert np.abs(images[9, 10, 44:].astype(int)).mean() < 12


def record_one_joint(root: Path, length: int) -> ActionSpec:
    """A robot of one joint without a camera."""
    spec = dataclasses.replace(SPEC, joints=SPEC.joints[:1], state=SPEC.state[:1], cameras=(), slices=())
    made = DatasetWriter(root, spec, {})
    for step in range(length):
        made.add_frame(Observation(np.array([0.01 * step], np.float32), step, task="turn"), [0.02 * step])
    made.save_episode()
    made.close()
    return spec


def test_a_robot_of_one_joint_is_recorded_as_numbers_as_lerobot_wants_it(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    spec = record_one_joint(tmp_path / "set", 5)
    reader = DatasetReader(tmp_path / "set")
    episode = reader.episode(0)
    assert reader.spec == spec and episode.state.shape == episode.action.shape == (5, 1)
    assert episode.action[:, 0] == pytest.approx(0.02 * np.arange(5))
    place = tmp_path / "set" / layout.DATA.format(**layout.place(0))
    table = pytest.importorskip("pyarrow.parquet").read_table(place)
    assert table.schema.field("observation.state").type == table.schema.field("action").type == pyarrow.float32()


def test_files_follow_the_lerobot_layout(writer: DatasetWriter) -> None:
    record(writer, 10)
    record(writer, 4, "pick the mug")
    root = writer.root
    info = json.loads((root / "meta/info.json").read_text())
    assert (info["codebase_version"], info["fps"]) == ("v3.0", 30)
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"]) == (2, 14, 2)
    assert info["splits"] == {"train": "0:2"}
    assert info["features"]["observation.images.head"]["info"]["video.codec"] == "h264"
    for path in (
        "data/chunk-000/file-001.parquet",
        "meta/episodes/chunk-000/file-001.parquet",
        "videos/observation.images.head/chunk-000/file-001.mp4",
        "meta/tasks.parquet",
        "meta/modality.json",
    ):
        assert (root / path).exists(), path
    columns = tables.read_frames(root / "data/chunk-000/file-001.parquet")
    assert columns["index"].tolist() == [10, 11, 12, 13]
    assert columns["task_index"].tolist() == [1, 1, 1, 1]
    assert columns["timestamp"] == pytest.approx(np.arange(4) / 30)
    stats = json.loads((root / "meta/stats.json").read_text())
    assert np.shape(stats["observation.images.head"]["mean"]) == (3, 1, 1)
    assert stats["action"]["max"] == pytest.approx([0.18, 0.0, 0.002], abs=1e-6)
    assert stats["index"]["count"] == [14]
    assert len(list((root / layout.STAGING).glob("episode-*"))) == 0


def test_dataset_statistics_are_those_of_all_frames(writer: DatasetWriter) -> None:
    record(writer, 12)
    record(writer, 5)
    reader = DatasetReader(writer.root)
    states = np.concatenate([reader.episode(i).state for i in range(2)]).astype(np.float64)
    stats = reader.statistics()["observation.state"]
    assert stats.mean == pytest.approx(states.mean(0))
    assert stats.std == pytest.approx(states.std(0))


def test_recording_is_continued(tmp_path: Path) -> None:
    for expected in range(3):
        writer = DatasetWriter(tmp_path / "set", SPEC, SHAPES)
        assert writer.episodes == expected
        assert record(writer, 4) == expected
        writer.close()
    assert DatasetReader(tmp_path / "set").info["total_frames"] == 12


def test_unfinished_episodes_are_dropped_and_finished_ones_stay(tmp_path: Path) -> None:
    writer = DatasetWriter(tmp_path / "set", SPEC, SHAPES)
    record(writer, 4)
    writer.add_frame(*frame(0))
    assert writer.frames == 1
    writer.discard_episode()
    assert writer.frames == 0
    writer.add_frame(*frame(0))
    writer.close()
    assert len(DatasetReader(tmp_path / "set")) == 1
    writer = DatasetWriter(tmp_path / "set", SPEC, SHAPES)
    assert record(writer, 3) == 1
    writer.close()


class Killed(BaseException):
    """Stands for the process ending at this point."""


def test_a_kill_at_any_step_loses_no_finished_episode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, steps = Path.replace, 0

    def count_down(self: Path, target: Path) -> Path:
        nonlocal steps
        if steps == 0:
            raise Killed
        steps -= 1
        return real(self, target)

    outcomes = set()
    for kill_after in range(60):
        root = tmp_path / f"set{kill_after}"
        finished = 0
        steps = kill_after
        monkeypatch.setattr(Path, "replace", count_down)
        writer: DatasetWriter | None = None
        try:
            writer = DatasetWriter(root, SPEC, SHAPES)
            for length in (3, 2):
                record(writer, length)
                finished += 1
        except Killed:
            pass
        monkeypatch.setattr(Path, "replace", real)
        if writer is not None:
            writer._lock.close()  # the lock ends with its process
        again = DatasetWriter(root, SPEC, SHAPES)
        # Committed but not returned: may be there. Returned: must be there.
        assert finished <= again.episodes <= finished + 1
        assert record(again, 4) == again.episodes - 1
        again.close()
        reader = DatasetReader(root)
        lengths = [len(reader.episode(i).action) for i in range(len(reader))]
        assert lengths == [*[3, 2][: len(reader) - 1], 4]
        assert reader.info["total_frames"] == sum(lengths)
        assert reader.images(len(reader) - 1, "head").shape[0] == 4
        outcomes.add((finished, len(reader) - 1))
        if finished == 2:
            break
    assert {(0, 0), (0, 1), (1, 1), (1, 2), (2, 2)} <= outcomes


SCRIPT = """
import sys
sys.path[:0] = [{repository!r}, {here!r}]
from test_writer import DatasetWriter, SPEC, SHAPES, record
writer = DatasetWriter({root!r}, SPEC, SHAPES)
while True:
    print(record(writer, 3), flush=True)
"""


def test_sigkill_loses_no_finished_episode(tmp_path: Path) -> None:
    here = Path(__file__).parent
    script = SCRIPT.format(repository=str(here.parents[2]), here=str(here), root=str(tmp_path / "set"))
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    saved = -1
    while saved < 4:
        line = process.stdout.readline()
        assert line, "the recorder ended by itself"
        saved = int(line)
    os.kill(process.pid, signal.SIGKILL)
    rest = process.stdout.read().split()
    process.wait()
    process.stdout.close()
    saved = int(rest[-1]) if rest else saved
    recover(tmp_path / "set")
    reader = DatasetReader(tmp_path / "set")
    assert len(reader) >= saved + 1
    assert all(len(reader.episode(i).action) == 3 for i in range(len(reader)))


def test_a_full_disk_at_any_step_is_named_and_loses_no_finished_episode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blind = dataclasses.replace(SPEC, cameras=())
    room = 0

    def fill(path: Path) -> None:
        nonlocal room
        room -= 1
        if room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")

    words = set()
    monkeypatch.setattr(layout, "sync", fill)
    for steps in range(100):
        room = 1000
        writer = DatasetWriter(tmp_path / f"set{steps}", blind, {})
        record(writer, 3)
        room = steps
        try:
            record(writer, 2)
        except DatasetError as error:
            assert "No space left on device" in str(error)
            words.add("is saved" in str(error))
            saved = writer.episodes
            assert saved == (2 if "is saved" in str(error) else 1)
            if saved == 1:
                with pytest.raises(DatasetError, match="discard this episode before the next one"):
                    writer.add_frame(*frame(0))
                with pytest.raises(DatasetError, match="discard this episode before the next one"):
                    writer.save_episode()
                writer.discard_episode()
        else:
            saved = 2
        full, room = room < 0, 1000
        if steps % 2:  # there is room again: in the same process, or for the next one
            writer.close()
            writer = DatasetWriter(writer.root, blind, {})
        assert record(writer, 4) == saved
        writer.close()
        reader = DatasetReader(writer.root)
        assert [len(reader.episode(i).action) for i in range(len(reader))] == [*[3, 2][:saved], 4]
        if not full:
            break
    assert not full
    assert words == {True, False}


def test_a_video_that_cannot_be_written_breaks_the_episode_alone(tmp_path: Path) -> None:
    writer = DatasetWriter(tmp_path / "set", SPEC, SHAPES)
    record(writer, 3)
    noise = np.random.default_rng(1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(DatasetError, match=r"0\.mp4 cannot be written"):
            for step in range(1000):
                observation, action = frame(step)
                image = noise.integers(0, 255, (48, 64, 3), np.uint8)
                writer.add_frame(dataclasses.replace(observation, images={"head": image}), action)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    writer.discard_episode()
    assert record(writer, 4) == 1
    writer.close()
    assert len(DatasetReader(writer.root)) == 2


def test_repairing_waits_for_nobody_and_needs_a_dataset(writer: DatasetWriter) -> None:
    writer.add_frame(*frame(0))
    with pytest.raises(DatasetError, match="another process is recording"):
        recover(writer.root)
    assert record(writer, 3) == 0  # nothing of what is being recorded was dropped
    with pytest.raises(DatasetError, match="is this a LeRobot"):
        recover(writer.root / "elsewhere")
    (writer.root / "file").write_text("")
    with pytest.raises(DatasetError, match="cannot be recorded into"):
        DatasetWriter(writer.root / "file" / "set", SPEC, SHAPES)


def test_a_waiting_commit_is_named_by_the_reader(writer: DatasetWriter) -> None:
    record(writer, 3)
    staging = writer.root / layout.STAGING / "episode-000009"
    staging.mkdir()
    (staging / layout.COMMIT).write_text("{}")
    with pytest.raises(DatasetError, match="recover"):
        DatasetReader(writer.root)


def test_two_writers_are_refused(writer: DatasetWriter) -> None:
    with pytest.raises(DatasetError, match="another process is recording"):
        DatasetWriter(writer.root, SPEC, SHAPES)


def test_other_spec_or_other_files_are_refused(tmp_path: Path) -> None:
    DatasetWriter(tmp_path / "set", SPEC, SHAPES).close()
    with pytest.raises(DatasetError, match=r"with another fps \(30\.0, here 15\.0\): record into another"):
        DatasetWriter(tmp_path / "set", dataclasses.replace(SPEC, fps=15.0), SHAPES)
    with pytest.raises(DatasetError, match=r"shape \[48, 64, 3\]; this robot's is \[48, 80, 3\]"):
        DatasetWriter(tmp_path / "set", SPEC, {"head": (48, 80)})
    (tmp_path / "other").mkdir()
    (tmp_path / "other/thesis.txt").write_text("precious")
    with pytest.raises(DatasetError, match="not empty and no dataset"):
        DatasetWriter(tmp_path / "other", SPEC, SHAPES)
    assert (tmp_path / "other/thesis.txt").read_text() == "precious"


def test_bad_frames_are_refused_and_the_episode_goes_on(writer: DatasetWriter) -> None:
    observation, action = frame(0)
    writer.add_frame(observation, action)
    with pytest.raises(DatasetError, match="expected 3 finite numbers"):
        writer.add_frame(observation, action * np.nan)
    with pytest.raises(DatasetError, match="no task"):
        writer.add_frame(dataclasses.replace(observation, task=" "), action)
    with pytest.raises(DatasetError, match=r"\(20, 20\) \(height, width\); expected \(48, 64\)"):
        writer.add_frame(dataclasses.replace(observation, images={"head": np.zeros((20, 20, 3), np.uint8)}), action)
    with pytest.raises(ActionError, match="no image of camera"):
        writer.add_frame(dataclasses.replace(observation, images={}), action)
    assert writer.frames == 1
    writer.save_episode()
    with pytest.raises(DatasetError, match="no frame was added"):
        writer.save_episode()


def test_odd_sizes_and_unknown_codecs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="64x47 px; both must be even"):
        DatasetWriter(tmp_path / "set", SPEC, {"head": (47, 64)})
    with pytest.raises(DatasetError, match="video codec is 'vhs'"):
        DatasetWriter(tmp_path / "set", SPEC, SHAPES, codec="vhs")
    assert not (tmp_path / "set").exists()


def test_damage_is_named(writer: DatasetWriter) -> None:
    record(writer, 6)
    root = writer.root
    (root / "videos/observation.images.head/chunk-000/file-000.mp4").write_bytes(b"no video")
    reader = DatasetReader(root)
    with pytest.raises(DatasetError, match=r"file-000\.mp4 cannot be read"):
        reader.images(0, "head")
    with pytest.raises(DatasetError, match="no episode 1; it has 1"):
        reader.episode(1)
    with pytest.raises(DatasetError, match="no camera 'wrist'"):
        reader.images(0, "wrist")
    (root / "data/chunk-000/file-000.parquet").write_bytes(b"PAR1")
    with pytest.raises(DatasetError, match=r"file-000\.parquet cannot be read"):
        reader.episode(0)
    with pytest.raises(DatasetError, match="is missing; is this a LeRobot"):
        DatasetReader(root / "meta")
