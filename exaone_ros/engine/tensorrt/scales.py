"""AWQ-style scales beside the engines that were built with them: searched once, kept, and part of an engine's key."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exaone_ros.engine.calibration import Progress, calibrate
from exaone_ros.engine.tensorrt.cache import unwritable, write_whole
from exaone_ros.errors import CheckpointError, EngineError
from exaone_ros.model.awq import InputScales
from exaone_ros.model.checkpoint import Checkpoint
from exaone_ros.model.precision import Precision, WeightFormat

_log = logging.getLogger(__name__)

CALIBRATIONS = "calibrations.json"
_SEARCH = 1  # to be raised whenever the search or its questions change


def weights_key(fingerprint: str, scales: InputScales | None) -> str:
    """What stands for the weights of a decoder in its engine's key: the checkpoint, and the scales if there are any."""
    return fingerprint if scales is None else hashlib.sha256(f"{fingerprint} {scales.digest}".encode()).hexdigest()


def keep_scales(scales: InputScales | None, root: Path) -> str | None:
    """Put scales into the cache, where the backend needs them to know an engine again; the name of their file.

    Raises:
        EngineError: the cache cannot be written.
    """
    if scales is None:
        return None
    name = f"scales-{scales.digest[:24]}.npz"
    if not (root / name).is_file():
        try:
            root.mkdir(parents=True, exist_ok=True)
            scales.save(root / name)
        except OSError as error:
            raise unwritable(root, error) from error
    return name


def kept_scales(manifest: Mapping[str, Any], root: Path) -> InputScales | None:
    """The scales that an engine was built with.

    Raises:
        CheckpointError: their file is missing or damaged.
    """
    name = manifest.get("input_scales")
    return None if name is None else InputScales.load(root / Path(str(name)).name)


def calibrated_scales(
    checkpoint: Checkpoint,
    precision: Precision,
    frames: Sequence[NDArray[np.uint8]],
    root: Path,
    fingerprint: str,
    *,
    threads: int = 0,
    progress: Progress = lambda phase, done: None,
    before_search: Callable[[], None] = lambda: None,
) -> InputScales:
    """Scales searched on frames, or found in the cache where the same search was done before.

    Args:
        checkpoint: opened.
        precision: that the weights will be quantised to.
        frames: uint8 RGB [H, W, 3].
        root: of the engine cache.
        fingerprint: of the checkpoint's content.
        threads: of the computation; 0 = one per core.
        progress: told phases and how far they are.
        before_search: raises what would stop the build behind it: a search can take hours.

    Raises:
        EngineError: the precision quantises nothing, or the cache cannot be written (before anything is searched).
        CheckpointError: the checkpoint is quantised already or has no tokenizer, or kept scales are damaged.
    """
    if checkpoint.layout is not None:
        raise CheckpointError(
            f"{checkpoint.directory} is quantised already ({checkpoint.layout.name}): calibrate the unquantised "
            "release, or leave --calibrate out"
        )
    if precision.weights is WeightFormat.PLAIN:
        raise EngineError(
            f"precision '{precision.name}' quantises nothing: leave --calibrate out, or choose one of int4, int8, fp8"
        )
    digest = hashlib.sha256(f"{_SEARCH} {fingerprint} {precision.name}".encode())
    for frame in frames:
        digest.update(f"{frame.shape}".encode() + frame.tobytes())
    key, index = digest.hexdigest(), root / CALIBRATIONS
    name = _known(index).get(key)
    if name is not None and (root / name).is_file():
        return InputScales.load(root / name)
    try:
        root.mkdir(parents=True, exist_ok=True)
        writable = os.access(root, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        raise EngineError(f"engine cache {root} cannot be written; choose another with --cache or EXAONE_ENGINES")
    before_search()
    scales = calibrate(checkpoint, precision, frames, threads=threads, progress=progress)
    name = keep_scales(scales, root)
    try:
        write_whole(index, json.dumps({**_known(index), key: name}).encode())
    except OSError as error:  # the scales are kept; the same search would only be done again
        _log.warning("the search for scales cannot be noted in %s: %s", index, error)
    return scales


def _known(index: Path) -> dict[str, str]:
    """File names of earlier searches by their key; an index that cannot be read is none: the search is done again."""
    try:
        known = json.loads(index.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    names = known.items() if isinstance(known, dict) else ()
    return {key: Path(name).name for key, name in names if isinstance(name, str)}
