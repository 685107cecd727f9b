"""Frames rendered beforehand, kept on disk and drawn again and again, mirrored and with other light.

For the renderers that are too slow to run beside training. A pool is a folder of shards; each shard holds frames of one
size and is written whole or not at all, so that a pool may be read while it grows.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exaone_ros.errors import DatasetError
from exaone_ros.sim.frame import LabelledFrame, SeenObject

VALIDATION_POOL = "validation"
"""Folder inside a pool with frames of validation seeds, which training looks at and never learns from."""


def write_shard(path: Path, frames: Iterable[LabelledFrame]) -> None:
    """Write frames of one size to `path` (.npz), atomically."""
    images, instances, truths = [], [], []
    for frame in frames:
        images.append(frame.image)
        instances.append(frame.instance.astype(np.int8))
        objects = [[o.shape, o.colour, o.box, o.distance_m, o.visible_px, o.visible_fraction] for o in frame.objects]
        truths.append({"objects": objects, "person": frame.person, "obstacle": frame.obstacle})
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.savez(file, images=np.stack(images), instances=np.stack(instances), truths=np.array(json.dumps(truths)))
    partial.replace(path)


def read_shard(path: Path) -> list[LabelledFrame]:
    """Read a shard; the frames share one block of memory.

    Raises:
        DatasetError: the file is damaged, or none of a pool.
    """
    try:
        with np.load(path) as data:
            images: NDArray[np.uint8] = data["images"]
            instances: NDArray[np.int8] = data["instances"]
            truths = json.loads(str(data["truths"]))
        frames = []
        for image, instance, truth in zip(images, instances, truths, strict=True):
            objects = tuple(SeenObject(s, c, tuple(box), d, px, f) for s, c, box, d, px, f in truth["objects"])
            person, obstacle = (tuple(box) if box else None for box in (truth["person"], truth["obstacle"]))
            frames.append(LabelledFrame(image, objects, person, obstacle, instance))  # type: ignore[arg-type]
    except (OSError, EOFError, ValueError, TypeError, KeyError, zipfile.BadZipFile) as error:
        raise damaged(path, str(error)) from error
    return frames


def damaged(shard: Path, reason: str) -> DatasetError:
    """What is said of a shard that cannot be read."""
    return DatasetError(
        f"{shard} cannot be read ({reason}); expected a shard that `prerender` wrote: delete it, and have `prerender` "
        "render it anew"
    )


class FramePool:
    """All frames of a pool folder, by image size; `refresh` picks up shards that have appeared."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._read: set[Path] = set()
        self.frames: dict[tuple[int, int], list[LabelledFrame]] = {}
        self.refresh()

    def refresh(self) -> None:
        for path in sorted(self._directory.glob("*.npz")):
            if path not in self._read:
                self._read.add(path)
                for frame in read_shard(path):
                    height, width = frame.image.shape[:2]
                    self.frames.setdefault((height, width), []).append(frame)

    def __len__(self) -> int:
        return sum(len(frames) for frames in self.frames.values())
