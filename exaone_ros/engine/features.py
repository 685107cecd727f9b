"""What a learned action head sees: an image and an instruction as a fixed number of vectors.

`hidden_states` are EXAONE's own: the last hidden states of the prompt that a question about the image would have, at
the image's tokens (what is where) and at the last tokens of the prompt (what is asked, with all that it looked back
at). `colour_grid` needs no model and knows nothing of the instruction: for trying out the way.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from exaone_ros.errors import EngineError, require
from exaone_ros.model.chat import PromptEncoder
from exaone_ros.model.checkpoint import Checkpoint
from exaone_ros.model.config import ModelConfig
from exaone_ros.model.preprocess import PreprocessConfig, check_image, preprocess
from exaone_ros.model.vision_plan import vision_plan
from exaone_ros.tasks import SYSTEM

BUNDLED_MODEL = "models/exaone4_5-tabletop-tiny"
COLOUR_GRID, HIDDEN_STATES = "colour_grid", "hidden_states"
TAIL = 16
"""Tokens at the end of the prompt that are kept: the instruction and the opening of the answer."""
CONTEXT_STEP = 64


class Features(Protocol):
    """Turns an image and an instruction into vectors. One thread at a time calls it.

    Attributes:
        kind: colour_grid or hidden_states.
        source: names the weights behind them; "" where there are none. A head works with no other.
    """

    kind: str
    source: str

    def __call__(self, image: NDArray[np.uint8], instruction: str) -> NDArray[np.float32]:
        """uint8 RGB [H, W, 3] and a text -> float32 [T, D]; T depends on the image's size alone.

        Raises:
            ExaoneError: the image or the instruction cannot be used.
        """
        ...


class ColourGrid:
    """Mean colours of a grid of `side` x `side` cells, float32 [side * side, 3] in -1..1.

    In an image with fewer pixels than cells across or down, neighbouring cells share a pixel.
    """

    kind, source = COLOUR_GRID, ""

    def __init__(self, side: int = 8) -> None:
        self._side = side

    def __call__(self, image: NDArray[np.uint8], instruction: str) -> NDArray[np.float32]:
        check_image(image)
        for axis in (0, 1):
            if image.shape[axis] < self._side:
                image = image.take(np.arange(self._side) * image.shape[axis] // self._side, axis)
        rows = np.array_split(image.astype(np.float32), self._side, axis=0)
        cells = [[cell.mean(axis=(0, 1)) for cell in np.array_split(row, self._side, axis=1)] for row in rows]
        return (np.array(cells).reshape(-1, 3) / 127.5 - 1).astype(np.float32)


class HiddenStates:
    """EXAONE's last hidden states, by graphs of its own: the weights are in memory once more.

    Args:
        model: checkpoint directory.
        threads: of the computation; 0 = one per core.

    Raises:
        CheckpointError: the checkpoint cannot be used.
        MissingExtra: onnxruntime or onnx is not installed.
    """

    kind = HIDDEN_STATES

    def __init__(self, model: Path, threads: int = 1) -> None:
        require("onnx", "cpu")
        from exaone_ros.engine.backends.onnx_support import best_opset
        from exaone_ros.engine.loaded_graph import memory_graph
        from exaone_ros.model.hidden_graph import build_hidden
        from exaone_ros.model.vision_graph import build_vision

        runtime: Any = require("onnxruntime", "cpu")
        checkpoint = Checkpoint.open(model)
        self.source = checkpoint.fingerprint()[:16]
        self._config: ModelConfig = checkpoint.config
        self._preprocess = PreprocessConfig.read(model, self._config.vision)
        self._prompts = PromptEncoder.open(model, self._config)
        opset, longest = best_opset(runtime), self._preprocess.max_visual_tokens + 1024
        self._vision = memory_graph(build_vision(checkpoint, self._preprocess, opset), threads)
        self._decoder = memory_graph(build_hidden(checkpoint, longest, opset), threads)
        self._longest = longest

    def __call__(self, image: NDArray[np.uint8], instruction: str) -> NDArray[np.float32]:
        patches, grid = preprocess(image, self._preprocess)
        seen = self._vision.run(vision_plan(self._config.vision, *grid).feeds(patches))["visual"]
        head = self._prompts.prefix([len(seen)], SYSTEM)
        tokens = np.concatenate([head, self._prompts.suffix(instruction or " ", system=SYSTEM)])
        if len(tokens) > self._longest:
            raise EngineError(
                f"image and instruction make {len(tokens)} tokens; expected at most {self._longest}: shorten the "
                f"instruction of {len(instruction)} characters"
            )
        pads = np.flatnonzero(tokens == self._config.image_token)
        return self._decoder.run(self._feeds(tokens, seen, pads))["hidden"]

    def _feeds(self, tokens: NDArray[np.int64], seen: NDArray[np.float32], pads: NDArray[Any]) -> dict[str, Any]:
        """One row of tokens on an empty cache of its own."""
        text, count = self._config.text, len(tokens)
        capacity = -(-count // CONTEXT_STEP) * CONTEXT_STEP
        rows = np.full((1, count), -1, np.int64)
        rows[0, pads] = np.arange(len(pads))
        key, query = np.arange(capacity), np.arange(count)[None, None, :, None]
        causal = key <= query
        window = text.sliding_window or capacity
        feeds: dict[str, Any] = {
            "input_ids": tokens[None],
            "visual": seen,
            "visual_row": rows,
            "position_ids": np.arange(count, dtype=np.int64)[None],
            "write_index": np.zeros(1, np.int64),
            "mask_global": causal,
            "mask_local": causal & (key > query - window),
            "logit_rows": np.concatenate([pads, np.arange(count - TAIL, count)]),
        }
        empty = np.zeros((1, text.kv_heads, capacity, text.head_dim), np.float32)
        for layer in range(text.layers):
            feeds[f"past_k.{layer}"] = feeds[f"past_v.{layer}"] = empty
        return {name: feeds[name] for name in self._decoder.shapes}


def open_features(kind: str, model: Path | None = None, threads: int = 1) -> Features:
    """The features of this kind.

    Args:
        kind: colour_grid or hidden_states.
        model: checkpoint directory for hidden_states.
        threads: of the computation.

    Raises:
        EngineError: an unknown kind, or no checkpoint for one that needs it.
    """
    if kind == COLOUR_GRID:
        return ColourGrid()
    if kind != HIDDEN_STATES:
        raise EngineError(f"features are {kind!r}; expected '{COLOUR_GRID}' or '{HIDDEN_STATES}'")
    if model is None:
        raise EngineError(f"features '{HIDDEN_STATES}' need the directory of an EXAONE checkpoint")
    return HiddenStates(model, threads)


def features_like(described: Mapping[str, Any], model: Path | None = None, threads: int = 1) -> Features:
    """The features that a head was trained on.

    Args:
        described: `kind` and `source` of those.
        model: checkpoint directory.
        threads: of the computation.

    Raises:
        EngineError: an unknown kind, or the checkpoint is another one than then.
    """
    made = open_features(str(described.get("kind")), model, threads)
    if made.source != described.get("source"):
        raise EngineError(
            f"the head was trained on hidden states of checkpoint {described.get('source')}; {model} is {made.source}: "
            "train it anew on this one"
        )
    return made
