"""Where things are in a LeRobot v3 dataset, and writing files so that a kill never leaves half of one.

Every episode gets files of its own (LeRobot allows many episodes in one file, and does not ask for it): a finished
episode is then never touched again, and nothing that happens later can damage it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from exaone_ros.errors import DatasetError

VERSION = "v3.0"
CHUNK_SIZE = 1000
"""Files in one directory, LeRobot's default."""

INFO, STATS, TASKS = "meta/info.json", "meta/stats.json", "meta/tasks.parquet"
SPEC, MODALITY = "meta/action_spec.json", "meta/modality.json"
"""Beside LeRobot's own files: our action spec, and GR00T's description of the parts."""
DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
EPISODES = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"

STAGING = ".staging"
COMMIT = "commit.json"

INDEX_FEATURES: dict[str, dict[str, Any]] = {
    "timestamp": {"dtype": "float32", "shape": [1], "names": None},
    "frame_index": {"dtype": "int64", "shape": [1], "names": None},
    "episode_index": {"dtype": "int64", "shape": [1], "names": None},
    "index": {"dtype": "int64", "shape": [1], "names": None},
    "task_index": {"dtype": "int64", "shape": [1], "names": None},
}
"""LeRobot's own columns, in every dataset."""


def place(episode: int) -> dict[str, int]:
    """chunk_index and file_index of an episode's files."""
    chunk_index, file_index = divmod(episode, CHUNK_SIZE)
    return {"chunk_index": chunk_index, "file_index": file_index}


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file beside `path`, then put it in place: readers see the old file or the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    write(temporary)
    sync(temporary)
    temporary.replace(path)
    sync(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically."""
    text = json.dumps(value, indent=4, ensure_ascii=False)
    write_atomically(path, lambda temporary: _write_text(temporary, text))


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        DatasetError: missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DatasetError(f"{path} is missing; is this a LeRobot {VERSION} dataset?") from error
    except (ValueError, OSError) as error:
        raise DatasetError(f"{path} cannot be read: {error}") from error


def sync(path: Path) -> None:
    """Make a file or a directory's entries survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def move(source: Path, target: Path) -> None:
    """Put a staged file in place; nothing to do where that has happened already."""
    if source.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        source.replace(target)
        sync(target.parent)
    elif not target.exists():
        raise DatasetError(f"neither {source} nor {target} is there: the dataset was changed by hand; restore the file")
