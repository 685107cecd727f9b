"""What a command needs on disk and of the machine, looked at before minutes are spent."""

from __future__ import annotations

import argparse
import os
import zipfile
from collections.abc import Collection, Sequence
from pathlib import Path

from exaone_ros.errors import CheckpointError, DatasetError, ExaoneError
from exaone_ros.share import share_path
from exaone_ros.training.cli_arguments import MODEL


def check_folder(path: Path, option: str) -> None:
    """A folder that is written into: it is one, or can become one.

    Raises:
        ExaoneError: a file is in its place.
    """
    for place in (path, *path.parents):
        if place.exists():
            if not place.is_dir():
                raise ExaoneError(f"{option} is {path}, but {place} is a file; expected a folder: give another path")
            return


def check_file(path: Path | None, option: str) -> None:
    """A file that is written at the end.

    Raises:
        ExaoneError: its folder does not exist, or a folder is in its place.
    """
    if path is None:
        return
    if path.is_dir():
        raise ExaoneError(f"{option} is {path}, which is a folder; expected the name of a file")
    if not path.parent.is_dir():
        raise ExaoneError(f"{option} is {path}, but there is no folder {path.parent}; make it, or give another path")


def bundled_model() -> Path:
    """The bundled model: the one below the current folder, where `export` writes it, else the one that is installed.

    Raises:
        ExaoneError: there is none; names the places.
    """
    return MODEL if MODEL.is_dir() else share_path(MODEL.as_posix())


def check_writable(model: Path) -> None:
    """A model whose card is written at the end.

    Raises:
        ExaoneError: it may not be written, as where it is installed.
    """
    if model.is_dir() and not os.access(model, os.W_OK):
        raise ExaoneError(f"--card: {model} may not be written; expected a model of yours: name it with --model")


def check_pool(pool: Path | None) -> None:
    """A pool that is trained on; None = none is.

    Raises:
        DatasetError: it holds no frames, or a file that was cut short.
    """
    if pool is None:
        return
    from exaone_ros.training.pool import VALIDATION_POOL, damaged

    shards = sorted(pool.glob("*.npz"))
    if not shards:
        raise DatasetError(
            f"--pool is {pool}, which holds no frames; expected shards (*.npz): fill it with "
            f"`prerender --pool {pool}`, or leave --pool out to train on flat frames only"
        )
    for shard in (*shards, *sorted((pool / VALIDATION_POOL).glob("*.npz"))):
        if not zipfile.is_zipfile(shard):  # else a process that makes batches would end with a traceback
            raise damaged(shard, "it is no archive of numpy")


def check_start(start: Path | None) -> None:
    """Weights to begin with; None = a run begins from scratch.

    Raises:
        CheckpointError: there is nothing of this name.
    """
    if start is not None and not start.exists():
        raise CheckpointError(
            f"--start is {start}, which does not exist; expected a run's checkpoint.pt or a folder that `export` wrote"
        )


def check_data(options: argparse.Namespace) -> None:
    """Pictures of one's own.

    Raises:
        DatasetError: a folder of pictures without the file that describes them, or none such.
    """
    if options.images is not None and options.data is None:
        raise DatasetError(
            f"--images is {options.images} without --data; name the COCO JSON file of these pictures too"
        )
    if options.images is not None and not options.images.is_dir():
        raise DatasetError(f"--images is {options.images}, which is no folder; expected that of the pictures")


def check_only(given: Collection[str] | None, known: Sequence[str], what: str) -> None:
    """The choice of `--only`; None = all.

    Args:
        given: names.
        known: all that there are, in the order in which they are told.
        what: they are, e.g. ``column``.

    Raises:
        ExaoneError: a name is unknown.
    """
    unknown = sorted(set(given or ()) - set(known))
    if unknown:
        raise ExaoneError(f"--only names the {what} {unknown[0]!r}, which is unknown; expected some of {list(known)}")


def check_device(device: str) -> None:
    """Where training runs.

    Raises:
        ExaoneError: CUDA is asked for and torch finds none.
    """
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise ExaoneError(
                f"--device is cuda, but torch {torch.__version__} finds no CUDA device; expected one, with torch built "
                "for CUDA: install that, or take --device cpu"
            )
