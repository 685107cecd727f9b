"""The tables of a LeRobot v3 dataset: frames, episodes, tasks. Parquet, through pyarrow."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exaone_ros.action import schemas
from exaone_ros.action.recorder import layout
from exaone_ros.action.spec import ActionSpec, Joint
from exaone_ros.action.statistics import Statistics
from exaone_ros.errors import ActionError, DatasetError, require

IMAGE_STATISTICS_SHAPE = (3, 1, 1)


def read_spec(root: Path) -> ActionSpec:
    """The action spec that a dataset was recorded with.

    Raises:
        DatasetError: missing or damaged.
    """
    entry = layout.read_json(root / layout.SPEC)
    try:
        joints = tuple(Joint(**joint) for joint in entry.pop("joints"))
        slices = tuple((name, start, stop) for name, start, stop in entry.pop("slices"))
        return ActionSpec(joints=joints, slices=slices, **entry)
    except (KeyError, TypeError, ValueError, ActionError) as error:
        raise DatasetError(f"{root / layout.SPEC} is no action spec: {error}") from error


def write_frames(path: Path, columns: Mapping[str, NDArray[Any] | list[str]]) -> None:
    """Write an episode's frames: vectors as fixed-size lists of float32, numbers as they are, texts as strings.

    A vector of one element is a number in the file: LeRobot takes a feature of shape [1] for one, and loads no list.
    """
    pa, parquet = require("pyarrow", "record"), require("pyarrow.parquet", "record")
    arrays = {}
    for key, column in columns.items():
        if isinstance(column, np.ndarray) and column.ndim == 2 and column.shape[1] == 1:
            arrays[key] = pa.array(column[:, 0])
        elif isinstance(column, np.ndarray) and column.ndim == 2:
            flat = pa.array(np.ascontiguousarray(column).reshape(-1))
            arrays[key] = pa.FixedSizeListArray.from_arrays(flat, column.shape[1])
        else:
            arrays[key] = pa.array(column)
    layout.write_atomically(path, lambda temporary: parquet.write_table(pa.table(arrays), temporary))


def read_frames(path: Path) -> dict[str, Any]:
    """The columns of `write_frames`: arrays, those of vectors of one element [N], and lists of texts.

    Raises:
        DatasetError: missing or damaged.
    """
    columns: dict[str, Any] = {}
    for name, values in _read(path).items():
        columns[name] = values if values and isinstance(values[0], str) else np.asarray(values)
    return columns


def _read(path: Path) -> dict[str, list[Any]]:
    parquet = require("pyarrow.parquet", "record")
    try:
        result: dict[str, list[Any]] = parquet.read_table(path).to_pydict()
    except (OSError, ValueError) as error:  # ArrowInvalid is a ValueError
        raise DatasetError(f"{path} cannot be read: {error}") from error
    return result


def episode_row(
    index: int, tasks: Sequence[str], first: int, length: int, spec: ActionSpec, stats: Mapping[str, Any]
) -> dict[str, Any]:
    """An episode's row of metadata, under LeRobot's column names.

    Args:
        index: of the episode.
        tasks: its instructions.
        first: index of its first frame in the whole dataset.
        length: frames.
        spec: of the robot.
        stats: of each feature, as `Statistics.to_json` gives them.
    """
    place = layout.place(index)
    row: dict[str, Any] = {
        "episode_index": index,
        "tasks": list(tasks),
        "length": length,
        "data/chunk_index": place["chunk_index"],
        "data/file_index": place["file_index"],
        "dataset_from_index": first,
        "dataset_to_index": first + length,
    }
    for camera in spec.cameras:
        prefix = f"videos/{schemas.IMAGES}{camera}/"
        row |= {prefix + key: value for key, value in place.items()}
        row |= {prefix + "from_timestamp": 0.0, prefix + "to_timestamp": length / spec.fps}
    row |= {f"meta/episodes/{key}": value for key, value in place.items()}
    for feature, entry in stats.items():
        row |= {f"stats/{feature}/{key}": value for key, value in entry.items()}
    return row


def write_episode(path: Path, row: Mapping[str, Any]) -> None:
    """Write one row of episode metadata."""
    pa, parquet = require("pyarrow", "record"), require("pyarrow.parquet", "record")
    table = pa.table({key: [value] for key, value in row.items()})
    layout.write_atomically(path, lambda temporary: parquet.write_table(table, temporary))


def read_episodes(root: Path) -> list[dict[str, Any]]:
    """Rows of all episodes, in order.

    Raises:
        DatasetError: damaged, or an episode is missing.
    """
    rows: list[dict[str, Any]] = []
    for path in sorted((root / "meta/episodes").glob("*/*.parquet")):
        columns = _read(path)
        count = len(next(iter(columns.values())))
        rows += [{key: values[i] for key, values in columns.items()} for i in range(count)]
    rows.sort(key=lambda row: int(row["episode_index"]))
    for expected, row in enumerate(rows):
        if row["episode_index"] != expected:
            raise DatasetError(f"{root}: metadata of episode {expected} is missing; next is {row['episode_index']}")
    return rows


def task_indices(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Index of each instruction, in the order in which they first came."""
    tasks: dict[str, int] = {}
    for row in rows:
        for task in row["tasks"]:
            tasks.setdefault(task, len(tasks))
    return tasks


def write_metadata(root: Path, rows: Sequence[Mapping[str, Any]], videos: Mapping[str, Any]) -> None:
    """Write tasks, statistics and info anew; doing it again changes nothing.

    Args:
        root: of the dataset.
        rows: metadata of all its episodes.
        videos: LeRobot's ``info`` of each video feature.
    """
    tasks = task_indices(rows)
    _write_tasks(root / layout.TASKS, tasks)
    layout.write_json(root / layout.STATS, _dataset_statistics(rows))
    info = layout.read_json(root / layout.INFO)
    info["total_episodes"], info["total_tasks"] = len(rows), len(tasks)
    info["total_frames"] = sum(int(row["length"]) for row in rows)
    info["splits"] = {"train": f"0:{len(rows)}"}
    for key, video in videos.items():
        info["features"][key]["info"] = video
    layout.write_json(root / layout.INFO, info)


def _write_tasks(path: Path, tasks: Mapping[str, int]) -> None:
    """LeRobot reads this table with pandas and finds a task by the frame's index, hence pandas' own metadata."""
    pa, parquet = require("pyarrow", "record"), require("pyarrow.parquet", "record")
    table = pa.table({"task_index": pa.array(list(tasks.values()), pa.int64()), "task": list(tasks)})
    pandas = {
        "index_columns": ["task"],
        "column_indexes": [],
        "columns": [
            {
                "name": "task_index",
                "field_name": "task_index",
                "pandas_type": "int64",
                "numpy_type": "int64",
                "metadata": None,
            },
            {"name": "task", "field_name": "task", "pandas_type": "unicode", "numpy_type": "object", "metadata": None},
        ],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.2.0",
    }
    table = table.replace_schema_metadata({b"pandas": json.dumps(pandas).encode()})
    layout.write_atomically(path, lambda temporary: parquet.write_table(table, temporary))


def _dataset_statistics(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    features = sorted({key.split("/")[1] for key in rows[0] if key.startswith("stats/")}) if rows else []
    result = {}
    for feature in features:
        prefix = f"stats/{feature}/"
        parts = []
        for row in rows:
            entry = {k[len(prefix) :]: np.ravel(v).tolist() for k, v in row.items() if k.startswith(prefix)}
            parts.append(Statistics.from_json(entry, feature))
        merged = Statistics.merged(parts).to_json()
        if feature.startswith(schemas.IMAGES):
            shape = IMAGE_STATISTICS_SHAPE
            merged = {k: v if k == "count" else np.reshape(v, shape).tolist() for k, v in merged.items()}
        result[feature] = merged
    return result
