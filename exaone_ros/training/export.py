"""From a training checkpoint to the Hugging Face directory that is shipped."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from exaone_ros.errors import CheckpointError
from exaone_ros.training.model import Sizes, build_config, build_model
from exaone_ros.training.tokenizer import write_processor

MODEL_PREFIX = "model."
"""Before the model's own names in the checkpoint of `PackedModel`; the auxiliary heads have another and stay behind."""


def export(checkpoint: Path, directory: Path) -> int:
    """Write weights (float16 safetensors), configuration, tokenizer and processor files.

    Args:
        checkpoint: `checkpoint.pt` of a training run.
        directory: where to; made if missing, files of the same names are replaced.

    Returns:
        The number of parameters.

    Raises:
        CheckpointError: there is no such checkpoint, or it is not one of this training.
    """
    if not checkpoint.is_file():
        raise CheckpointError(f"{checkpoint} does not exist; expected the checkpoint.pt of a training run")
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    if not {"model", "sizes", "step"} <= set(state):
        raise CheckpointError(f"{checkpoint} holds {sorted(state)[:5]}; expected the checkpoint.pt of a training run")
    vocabulary_size = write_processor(directory)
    sizes = state["sizes"] | {"full_attention": tuple(state["sizes"]["full_attention"])}
    model = build_model(build_config(Sizes(**sizes), vocabulary_size), seed=0)
    weights = {
        name.removeprefix(MODEL_PREFIX): value
        for name, value in state["model"].items()
        if name.startswith(MODEL_PREFIX)
    }
    model.load_state_dict(weights)
    for name, value in model.state_dict().items():
        if not torch.isfinite(value.half()).all():
            raise CheckpointError(f"{checkpoint}: {name} does not fit into float16; train again at a lower rate")
    generation = (directory / "generation_config.json").read_bytes()
    model.half().save_pretrained(directory)
    (directory / "generation_config.json").write_bytes(generation)  # ours: greedy
    return sum(parameter.numel() for parameter in model.parameters())


def count_parameters(directory: Path) -> int:
    """The number of parameters in a directory that `export` wrote."""
    from safetensors import safe_open

    with safe_open(directory / "model.safetensors", framework="np") as tensors:
        return sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
