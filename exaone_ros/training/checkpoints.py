"""Checkpoints of training runs: reading them, and telling one trunk from another."""

from __future__ import annotations

import hashlib
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from exaone_ros.errors import CheckpointError

CHECKPOINT = "checkpoint.pt"
BEST_CHECKPOINT = "best.pt"
"""Weights of the look at validation frames with the least loss; without optimisers."""
MTP_CHECKPOINT = "mtp.pt"
WEIGHTS = "model.safetensors"
MTP_PREFIX = "mtp."
"""Of weights that `transformers` passes by."""
MODEL_PREFIX = "model."
"""Before the model's own names in the checkpoint of `PackedModel`; the auxiliary heads have another and stay behind."""


def read_run(checkpoint: Path) -> dict[str, Any]:
    """The content of the checkpoint.pt of a training run.

    Raises:
        CheckpointError: there is no such checkpoint, or it is not one of this training.
    """
    expected = "the checkpoint.pt of a training run"
    if not checkpoint.is_file():
        raise CheckpointError(f"{checkpoint} does not exist; expected {expected}")
    state = read_archive(checkpoint, expected)
    if not {"model", "sizes", "step"} <= set(state):
        raise CheckpointError(f"{checkpoint} holds {sorted(state)[:5]}; expected {expected}")
    return state


def read_archive(file: Path, expected: str) -> dict[str, Any]:
    """What torch saved in a file.

    Args:
        file: to read.
        expected: what it should be, for the message.

    Raises:
        CheckpointError: the file is damaged, or holds no dict.
    """
    try:
        if not zipfile.is_zipfile(file):  # torch's reader of what is none fails with errors of any kind
            raise pickle.UnpicklingError("it is no archive of torch")
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"{file} cannot be read: {str(error).splitlines()[0]}; expected {expected}: take another, or delete the "
            "file to begin anew"
        ) from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{file} holds a {type(state).__name__}; expected {expected}")
    return state


def load_weights(model: nn.Module, weights: dict[str, Tensor], file: Path) -> None:
    """Put weights of a file into a model.

    Raises:
        CheckpointError: they are those of a model of other sizes, or of another vocabulary.
    """
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:  # torch's word for other names or shapes
        first = " ".join(str(error).splitlines()[1:2]).strip()
        raise CheckpointError(
            f"{file} has other weights than the model of this version: {first}; every word of the vocabulary is a "
            "token by itself, so a checkpoint belongs to the version that trained it: train anew"
        ) from error


def read_exported(directory: Path) -> dict[str, Tensor]:
    """The trunk's weights in a directory that `export` wrote, in float32, by the names of `transformers`.

    Raises:
        CheckpointError: the directory holds no such weights.
    """
    from safetensors.torch import load_file

    path = directory / WEIGHTS
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist; expected a directory that `export` wrote")
    return {name: value.float() for name, value in load_file(path).items() if not name.startswith(MTP_PREFIX)}


def trunk_weights(state: dict[str, Any]) -> dict[str, Tensor]:
    """The model's own weights in a run's checkpoint, by the names of `transformers`."""
    return {
        name.removeprefix(MODEL_PREFIX): value
        for name, value in state["model"].items()
        if name.startswith(MODEL_PREFIX)
    }


def fingerprint(weights: dict[str, Tensor]) -> str:
    """SHA-256 over names and values of a trunk's weights."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(weights[name].contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()
