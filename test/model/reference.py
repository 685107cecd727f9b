"""The truth for parity tests: `transformers` run as anybody would run it, without a cache of ours."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from exaone_ros.engine.backends.torch_reference import load_transformers_model
from exaone_ros.model.checkpoint import Checkpoint

IMAGE_TOKEN = 67


@lru_cache(maxsize=8)
def reference_model(directory: Path, attention: str = "sdpa") -> Any:
    torch.set_num_threads(1)
    return load_transformers_model(Checkpoint.open(directory), attention)


@lru_cache(maxsize=8)
def image_processor(directory: Path) -> Any:
    return Qwen2VLImageProcessorPil.from_pretrained(directory)


def processed(directory: Path, images: Sequence[NDArray[np.uint8]]) -> dict[str, torch.Tensor]:
    batch = image_processor(directory)(images=list(images), return_tensors="pt")
    return {"pixel_values": batch["pixel_values"], "image_grid_thw": batch["image_grid_thw"]}


def visual_tokens(directory: Path, image: NDArray[np.uint8]) -> NDArray[np.float32]:
    pixels = processed(directory, [image])
    with torch.inference_mode():
        found = reference_model(directory).model.visual(pixels["pixel_values"], grid_thw=pixels["image_grid_thw"])
    return found.pooler_output.numpy()


def logits(directory: Path, ids: NDArray[np.int64], images: Sequence[NDArray[np.uint8]] = ()) -> NDArray[np.float32]:
    """Logits of all tokens, from one forward pass over the whole sequence."""
    with torch.inference_mode():
        pixels = processed(directory, images) if images else {}
        return reference_model(directory)(input_ids=torch.from_numpy(ids)[None], **pixels).logits[0].numpy()


def greedy(directory: Path, ids: NDArray[np.int64], images: Sequence[NDArray[np.uint8]], count: int) -> list[int]:
    """`generate` with its own cache."""
    pixels = processed(directory, images) if images else {}
    prompt = torch.from_numpy(ids)[None]
    with torch.inference_mode():
        out = reference_model(directory).generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            **pixels,
            do_sample=False,
            max_new_tokens=count,
            min_new_tokens=count,
        )
    return out[0, len(ids) :].tolist()


def relative_error(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Largest absolute error relative to the largest expected value."""
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / np.abs(expected).max())
