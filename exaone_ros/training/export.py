"""From a training checkpoint to the Hugging Face directory that is shipped."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import torch
from torch import Tensor

from exaone_ros.errors import CheckpointError
from exaone_ros.training.checkpoints import (
    CHECKPOINT,
    MTP_CHECKPOINT,
    MTP_PREFIX,
    WEIGHTS,
    fingerprint,
    load_weights,
    read_archive,
    read_run,
    trunk_weights,
)
from exaone_ros.training.model import Sizes, build_config, build_model
from exaone_ros.training.tokenizer import build_tokenizer, write_processor


def export(checkpoint: Path, directory: Path) -> int:
    """Write weights (float16 safetensors), configuration, tokenizer and processor files.

    The MTP layer goes with them where the run has trained one (`mtp.pt` beside the checkpoint).

    Args:
        checkpoint: `checkpoint.pt` of a training run.
        directory: where to; made if missing, files of the same names are replaced.

    Returns:
        The number of parameters.

    Raises:
        CheckpointError: there is no such checkpoint, it is not one of this training or of another vocabulary, the MTP
            layer beside it belongs to other weights, or a weight does not fit into float16; then nothing was written.
    """
    state = read_run(checkpoint)
    sizes = state["sizes"] | {"full_attention": tuple(state["sizes"]["full_attention"])}
    model = build_model(build_config(Sizes(**sizes), build_tokenizer().get_vocab_size()), seed=0)
    weights = trunk_weights(state)
    load_weights(model, weights, checkpoint)
    mtp = _read_mtp(checkpoint.with_name(MTP_CHECKPOINT), fingerprint(weights))
    for name, value in (*model.state_dict().items(), *mtp.items()):
        if not torch.isfinite(value.half()).all():
            raise CheckpointError(f"{checkpoint}: {name} does not fit into float16; train again at a lower rate")
    write_processor(directory)
    generation = (directory / "generation_config.json").read_bytes()
    model.half().save_pretrained(directory)
    if mtp:
        _add_tensors(directory / WEIGHTS, {name: value.half() for name, value in mtp.items()})
    (directory / "generation_config.json").write_bytes(generation)  # ours: greedy
    shutil.copymode(directory / "config.json", directory / WEIGHTS)  # safetensors' files are their owner's alone
    return sum(value.numel() for value in (*model.parameters(), *mtp.values()))


def _read_mtp(path: Path, trunk: str) -> dict[str, Tensor]:
    """The MTP layer's weights by the names of a released checkpoint; none where the run has not trained one."""
    if not path.is_file():
        return {}
    state = read_archive(path, f"the {MTP_CHECKPOINT} that `mtp` wrote")
    if state.get("trunk") != trunk:
        raise CheckpointError(
            f"{path} was trained on other weights than those of {CHECKPOINT} beside it; train it again (command mtp) "
            "or delete it to export without an MTP layer"
        )
    return {MTP_PREFIX + name: value for name, value in state["mtp"].items()}


def _add_tensors(path: Path, more: dict[str, Tensor]) -> None:
    """Add tensors to a safetensors file."""
    from safetensors.torch import load_file, save_file

    save_file(load_file(path) | more, path, metadata={"format": "pt"})


def count_parameters(directory: Path) -> int:
    """The number of parameters in a directory that `export` wrote."""
    from safetensors import safe_open

    with safe_open(directory / WEIGHTS, framework="np") as tensors:
        return sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
