"""Reading recorded episodes back: for replay, for training a head, and for checking a dataset."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exaone_ros.action import schemas
from exaone_ros.action.recorder import layout, tables, video
from exaone_ros.action.spec import ActionSpec
from exaone_ros.action.statistics import Statistics
from exaone_ros.errors import DatasetError


@dataclass(frozen=True, eq=False)
class Episode:
    """One recorded episode.

    Attributes:
        index: in the dataset.
        state: float32 [N, S].
        action: float32 [N, A], physical units.
        tasks: the instruction of each frame.
        decisions: the choice that was acted on at each frame, "" where there was none.
        fps: frames per second.
    """

    index: int
    state: NDArray[np.float32]
    action: NDArray[np.float32]
    tasks: tuple[str, ...]
    decisions: tuple[str, ...]
    fps: float


class DatasetReader:
    """A LeRobot v3 dataset that this package recorded.

    Raises:
        DatasetError: missing, damaged, of another version, or a kill left a finished episode waiting in `.staging`.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        info = layout.read_json(self.root / layout.INFO)
        if info.get("codebase_version") != layout.VERSION:
            found = info.get("codebase_version")
            raise DatasetError(f"{self.root} is a LeRobot dataset of version {found!r}; expected '{layout.VERSION}'")
        if any((self.root / layout.STAGING).glob(f"*/{layout.COMMIT}")):
            raise DatasetError(
                f"{self.root} has a finished episode that is not in place yet, left by a kill; run "
                f"'python -m exaone_ros.action.recorder recover {self.root}'"
            )
        self.spec: ActionSpec = tables.read_spec(self.root)
        self.fps = float(info["fps"])
        self.info: dict[str, Any] = info
        self._rows = tables.read_episodes(self.root)

    def __len__(self) -> int:
        return len(self._rows)

    def _row(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self._rows):
            raise DatasetError(f"{self.root} has no episode {index}; it has {len(self._rows)}, counted from 0")
        return self._rows[index]

    def episode(self, index: int) -> Episode:
        """Everything of one episode but the images.

        Raises:
            DatasetError: there is no such episode, or its file is damaged.
        """
        row = self._row(index)
        place = {"chunk_index": row["data/chunk_index"], "file_index": row["data/file_index"]}
        columns = tables.read_frames(self.root / layout.DATA.format(**place))
        if len(columns["index"]) != row["length"]:
            raise DatasetError(f"episode {index} has {len(columns['index'])} frames; its metadata says {row['length']}")
        names = list(tables.task_indices(self._rows))
        return Episode(
            index=index,
            state=columns[schemas.STATE].astype(np.float32).reshape(row["length"], -1),
            action=columns[schemas.ACTION].astype(np.float32).reshape(row["length"], -1),
            tasks=tuple(names[i] for i in columns["task_index"]),
            decisions=tuple(columns[schemas.DECISION]),
            fps=self.fps,
        )

    def images(self, index: int, camera: str) -> NDArray[np.uint8]:
        """All frames of a camera in one episode, uint8 RGB [N, H, W, 3].

        Raises:
            DatasetError: there is no such episode or camera, or the video is damaged.
        """
        row, key = self._row(index), schemas.IMAGES + camera
        if f"videos/{key}/file_index" not in row:
            raise DatasetError(f"{self.root} has no camera '{camera}'; it has {list(self.spec.cameras)}")
        place = {name: row[f"videos/{key}/{name}"] for name in ("chunk_index", "file_index")}
        return video.decode(self.root / layout.VIDEO.format(video_key=key, **place), 0, int(row["length"]))

    def statistics(self) -> dict[str, Statistics]:
        """Of each feature over the whole dataset."""
        entries = layout.read_json(self.root / layout.STATS)
        return {
            key: Statistics.from_json({k: np.ravel(v).tolist() for k, v in entry.items()}, key)
            for key, entry in entries.items()
        }
