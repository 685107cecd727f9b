"""Recording episodes: frames go into a staging directory, a finished episode is put in place as a whole.

Commit protocol: an episode's files are written in `.staging/`, then `commit.json` is written atomically: from this
moment the episode exists, whatever happens. Then the files are moved into place and the metadata is written anew from
all episodes. Opening a dataset finishes commits that a kill interrupted, and drops episodes that were never finished.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import ArrayLike

from exaone_ros.action import schemas
from exaone_ros.action.observation import Observation
from exaone_ros.action.recorder import layout, tables
from exaone_ros.action.recorder.video import VideoEncoder, check_format
from exaone_ros.action.spec import ActionSpec
from exaone_ros.action.statistics import Statistics
from exaone_ros.errors import DatasetError


class DatasetWriter:
    """Records episodes into a LeRobot v3 dataset. One process, one thread.

    Args:
        root: directory of the dataset; made where it does not exist, else continued.
        spec: of the robot; a dataset that exists must have been recorded with the same one.
        image_shapes: (height, width) of each camera of the spec, even numbers.
        codec: of the videos, "h264" or "av1".

    Raises:
        DatasetError: the directory holds something else, or a dataset of another spec, or somebody is writing to it.
        MissingExtra: pyarrow or PyAV is not installed.
    """

    def __init__(
        self, root: Path, spec: ActionSpec, image_shapes: Mapping[str, tuple[int, int]], codec: str = "h264"
    ) -> None:
        self.root, self.spec, self._codec = Path(root), spec, codec
        self._image_shapes = dict(image_shapes)
        self._features = schemas.lerobot_features(spec, image_shapes)
        for camera in spec.cameras:
            check_format(*self._image_shapes[camera], codec)
        self._encoders: dict[str, VideoEncoder] = {}
        self._frames: dict[str, list[Any]] = {}
        self._open = False
        self._broken: DatasetError | None = None
        self._waiting = False  # a finished episode could not be put in place
        with _named(f"{self.root} cannot be recorded into"):
            new = not (self.root / layout.INFO).exists()
            if new and _holds_something_else(self.root):
                raise DatasetError(f"{self.root} is not empty and no dataset; choose another directory")
            self.root.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(self.root)
            try:
                if new:
                    self._create()
                self._check_same()
                _finish_all(self.root)
                self._episodes = tables.read_episodes(self.root)
            except BaseException:
                self._lock.close()
                raise

    @property
    def episodes(self) -> int:
        """Finished episodes."""
        return len(self._episodes)

    @property
    def frames(self) -> int:
        """Frames of the episode that is being recorded."""
        return len(self._frames["task"]) if self._open else 0

    def _create(self) -> None:
        layout.write_json(self.root / layout.SPEC, asdict(self.spec))
        layout.write_json(self.root / layout.MODALITY, schemas.gr00t_modality(self.spec))
        fps = int(self.spec.fps) if self.spec.fps.is_integer() else self.spec.fps
        info = {
            "codebase_version": layout.VERSION,
            "robot_type": self.spec.embodiment,
            "total_episodes": 0,
            "total_frames": 0,
            "total_tasks": 0,
            "chunks_size": layout.CHUNK_SIZE,
            "data_files_size_in_mb": 100,
            "video_files_size_in_mb": 200,
            "fps": fps,
            "splits": {},
            "data_path": layout.DATA,
            "video_path": layout.VIDEO if self.spec.cameras else None,
            "features": {**self._features, **layout.INDEX_FEATURES},
        }
        layout.write_json(self.root / layout.INFO, info)

    def _check_same(self) -> None:
        spec = tables.read_spec(self.root)
        if spec.hash != self.spec.hash:
            others = [
                f"{name} ({a}, here {b})" if len(f"{a}{b}") < 80 else name
                for name, a, b in _differences(spec, self.spec)
            ]
            raise DatasetError(
                f"{self.root} was recorded with spec {spec.hash} of '{spec.embodiment}'; this one is {self.spec.hash} "
                f"of '{self.spec.embodiment}', with another {', another '.join(others)}: record into another directory"
            )
        features = layout.read_json(self.root / layout.INFO)["features"]
        for key, feature in self._features.items():
            if features.get(key, {}).get("shape") != feature["shape"]:
                recorded = features.get(key, {}).get("shape")
                raise DatasetError(f"{self.root} has '{key}' of shape {recorded}; this robot's is {feature['shape']}")

    def add_frame(self, observation: Observation, action: ArrayLike, decision: str = "") -> None:
        """Record one moment; the first frame begins an episode. Frames are taken as 1 / fps apart.

        Args:
            observation: its task is the instruction.
            action: [A], the command that was sent on this observation, in physical units.
            decision: the choice that was acted on; "" where there was none.

        Raises:
            DatasetError: the action or an image is not as the spec says: the frame is left out. Or it cannot be
                written, e.g. on a full disk: then the episode can only be discarded, and this is raised until it is.
            ActionError: the observation does not fit the spec; the frame is left out.
        """
        self._check_whole()
        observation.check(self.spec)
        command = np.asarray(action, np.float32)
        if command.shape != (len(self.spec.joints),) or not np.isfinite(command).all():
            raise DatasetError(f"action is {command}; expected {len(self.spec.joints)} finite numbers")
        if not observation.task.strip():
            raise DatasetError("observation has no task; LeRobot needs an instruction for every frame")
        for camera in self.spec.cameras:
            shape = observation.images[camera].shape[:2]
            if shape != tuple(self._image_shapes[camera]):
                expected = self._image_shapes[camera]
                raise DatasetError(f"image of '{camera}' is {shape} (height, width); expected {expected}")
        with self._breaking("the frame"):
            if not self._open:
                self._begin()
            for camera, encoder in self._encoders.items():
                encoder.add(observation.images[camera])
        values = (np.asarray(observation.state), command, decision, observation.task)
        for key, value in zip(self._frames, values, strict=True):
            self._frames[key].append(value)

    def _begin(self) -> None:
        if self._waiting:
            _finish_all(self.root)
            self._waiting = False
        staging = self._staging
        if staging.exists():
            shutil.rmtree(staging)  # of an episode that could not be discarded
        staging.mkdir(parents=True)
        self._open = True
        self._frames = {schemas.STATE: [], schemas.ACTION: [], schemas.DECISION: [], "task": []}
        for i, camera in enumerate(self.spec.cameras):
            path = staging / f"{i}.mp4"
            self._encoders[camera] = VideoEncoder(path, *self._image_shapes[camera], self.spec.fps, self._codec)

    @contextmanager
    def _breaking(self, what: str) -> Iterator[None]:
        """Whatever cannot be written inside of it breaks the episode: a part of its frames may be missing."""
        try:
            with _named(f"{self.root}: {what} of episode {self.episodes} cannot be written"):
                yield
        except DatasetError as error:
            self._broken = error
            raise

    def _check_whole(self) -> None:
        if self._broken is not None:
            raise DatasetError(f"{self._broken}; discard this episode before the next one") from self._broken

    @property
    def _staging(self) -> Path:
        return self.root / layout.STAGING / f"episode-{self.episodes:06d}"

    def save_episode(self) -> int:
        """Finish the episode. When this returns, it is on disk and survives a kill or a power cut.

        Returns:
            Its index.

        Raises:
            DatasetError: it has no frames; or it cannot be written, e.g. on a full disk: then it can only be discarded,
                unless the message says that it is saved. Episodes that were finished before are not touched.
        """
        self._check_whole()
        if not self._open:
            raise DatasetError("there is no episode to save: no frame was added")
        index, staging = self.episodes, self._staging
        place = layout.place(index)
        moves = {"data.parquet": layout.DATA.format(**place), "episode.parquet": layout.EPISODES.format(**place)}
        with self._breaking("the end"):
            for i, (camera, encoder) in enumerate(self._encoders.items()):
                encoder.close()
                layout.sync(encoder.path)
                moves[f"{i}.mp4"] = layout.VIDEO.format(video_key=schemas.IMAGES + camera, **place)
            row = self._write_tables(staging, index)
            layout.sync(staging)
            videos = {schemas.IMAGES + camera: encoder.info() for camera, encoder in self._encoders.items()}
            layout.write_json(staging / layout.COMMIT, {"moves": moves, "videos": videos})
        # From here on the episode exists, whatever happens.
        self._episodes.append(row)
        self._open, self._encoders, self._waiting = False, {}, True
        with _named(f"{self.root}: episode {index} is saved; it is put in place by the next one, or by 'recover'"):
            finish_commit(self.root, staging, self._episodes)
        self._waiting = False
        return index

    def _write_tables(self, staging: Path, index: int) -> dict[str, Any]:
        """Write the episode's frames and its row of metadata into the staging directory; returns the row."""
        tasks = tables.task_indices(self._episodes)
        for task in self._frames["task"]:
            tasks.setdefault(task, len(tasks))
        task_index = np.array([tasks[task] for task in self._frames["task"]], np.int64)
        length = len(task_index)
        first = int(self._episodes[-1]["dataset_to_index"]) if self._episodes else 0
        columns: dict[str, Any] = {
            schemas.STATE: np.stack(self._frames[schemas.STATE]),
            schemas.ACTION: np.stack(self._frames[schemas.ACTION]),
            schemas.DECISION: self._frames[schemas.DECISION],
            schemas.ANNOTATION: task_index,
            "timestamp": (np.arange(length) / self.spec.fps).astype(np.float32),
            "frame_index": np.arange(length),
            "episode_index": np.full(length, index),
            "index": np.arange(first, first + length),
            "task_index": task_index,
        }
        tables.write_frames(staging / "data.parquet", columns)
        stats: dict[str, Any] = {}
        for key, column in columns.items():
            if key != schemas.DECISION:
                stats[key] = Statistics.of(np.asarray(column, np.float64).reshape(length, -1)).to_json()
        stats |= {schemas.IMAGES + camera: encoder.statistics() for camera, encoder in self._encoders.items()}
        row = tables.episode_row(index, list(dict.fromkeys(self._frames["task"])), first, length, self.spec, stats)
        tables.write_episode(staging / "episode.parquet", row)
        return row

    def discard_episode(self) -> None:
        """Throw away the frames since the last saved episode, if there are any."""
        for encoder in self._encoders.values():
            encoder.abandon()
        if self._open:
            shutil.rmtree(self._staging, ignore_errors=True)
        self._open, self._encoders, self._broken = False, {}, None

    def close(self) -> None:
        """Discard what was not saved and let others write; may be called twice."""
        if not self._lock.closed:
            try:
                self.discard_episode()
            finally:
                self._lock.close()


def _differences(one: ActionSpec, other: ActionSpec) -> Iterator[tuple[str, object, object]]:
    """(name, value, value) of what differs between two specs."""
    for part in fields(one):
        values = getattr(one, part.name), getattr(other, part.name)
        if values[0] != values[1]:
            yield part.name, *values


def _holds_something_else(root: Path) -> bool:
    """True where a new dataset would stand among other files; what an interrupted creation left is none."""
    ours = {Path(layout.SPEC), Path(layout.MODALITY), Path(layout.INFO)}
    ours |= {path.with_name(path.name + ".part") for path in ours}
    files = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
    return any(path not in ours and path.parts[0] != layout.STAGING for path in files)


def _lock(root: Path) -> IO[bytes]:
    """Keep a second writer out; the lock ends with the process, however it ends."""
    staging = root / layout.STAGING
    staging.mkdir(exist_ok=True)
    handle = (staging / "lock").open("wb")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        handle.close()
        raise DatasetError(f"another process is recording into {root}; stop it or choose another directory") from error
    return handle


@contextmanager
def _named(what: str) -> Iterator[None]:
    """Errors of the system inside of it become a DatasetError that says what could not be done."""
    try:
        yield
    except OSError as error:
        raise DatasetError(f"{what}: {error}") from error


def recover(root: Path) -> int:
    """Finish what a kill interrupted: put committed episodes in place, drop unfinished ones.

    Returns:
        How many episodes were put in place.

    Raises:
        DatasetError: there is no dataset, somebody is recording into it, or it cannot be written.
    """
    layout.read_json(root / layout.INFO)
    with _named(f"{root} cannot be repaired"), _lock(root):
        return _finish_all(root)


def _finish_all(root: Path) -> int:
    """`recover`, for those who hold the lock."""
    finished = 0
    for staging in sorted((root / layout.STAGING).glob("episode-*")):
        if (staging / layout.COMMIT).exists():
            finish_commit(root, staging)
            finished += 1
        else:
            shutil.rmtree(staging)
    return finished


def finish_commit(root: Path, staging: Path, rows: Sequence[Mapping[str, Any]] | None = None) -> None:
    """Put a committed episode in place; may be done again after any interruption.

    Args:
        root: of the dataset.
        staging: of the episode.
        rows: metadata of all episodes where it is known; read from disk otherwise.
    """
    commit = layout.read_json(staging / layout.COMMIT)
    for name, target in commit["moves"].items():
        layout.move(staging / name, root / target)
    tables.write_metadata(root, rows or tables.read_episodes(root), commit["videos"])
    (staging / layout.COMMIT).unlink()
    shutil.rmtree(staging)
