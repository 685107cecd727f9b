"""What the decoder's linear layers see on typical frames: the samples that AWQ-style scales are searched on.

The decoder runs layer by layer, float32, with one layer's weights in memory at a time: a model that does not fit
into main memory can be calibrated all the same. The vision encoder runs whole.
"""

from __future__ import annotations

import re
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from exaone_ros.engine.backends.onnx_support import best_opset
from exaone_ros.errors import EngineError, ImageError, require
from exaone_ros.model.awq import InputScales, input_scales
from exaone_ros.model.chat import PromptEncoder
from exaone_ros.model.checkpoint import Checkpoint
from exaone_ros.model.decoder_graph import build_decoder
from exaone_ros.model.graph_part import cut, product_inputs
from exaone_ros.model.onnx_graph import Graph, Weights
from exaone_ros.model.precision import Precision
from exaone_ros.model.preprocess import PreprocessConfig, preprocess
from exaone_ros.model.vision_graph import build_vision
from exaone_ros.model.vision_plan import vision_plan
from exaone_ros.tasks import SYSTEM, Count, Decide, Ground

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
ROWS_PER_LAYER = 512
"""Inputs of a layer that are kept at most; the paper's own search uses about as many."""
# Questions of every kind, with an answer of the right form: its tokens are inputs like all others. What it says is of
# no account.
_BOXES = [((112, 305, 268, 471), "red cube"), ((540, 388, 655, 560), "mug")]
_TURNS = (
    (Ground(name="objects"), Ground.answer(_BOXES)),
    (Count(name="all"), Count.answer(2)),
    (Decide(name="way", instruction="Is the way clear?", options=("clear", "blocked")), '{"choice":"clear"}'),
)
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Turn:
    """A question on an image with an answer.

    Attributes:
        tokens: int64 [n], image pads among them.
        visual: float32 [v, hidden], for the image pads in order.
    """

    tokens: NDArray[np.int64]
    visual: NDArray[np.float32]


def read_frames(source: Path, limit: int) -> list[NDArray[np.uint8]]:
    """Calibration frames, uint8 RGB [H, W, 3]: evenly spaced ones where there are more than `limit`.

    Args:
        source: a folder of images, or a .npy file of uint8 RGB [N, H, W, 3].
        limit: most frames.

    Raises:
        ImageError: there is nothing of the kind, or a file is no image.
    """
    if limit < 1:
        raise ImageError(f"{limit} calibration frames were asked for; expected at least 1")
    if source.suffix == ".npy" and source.is_file():
        try:
            frames = np.load(source, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise ImageError(f"{source} cannot be read as an array: {error}") from error
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or not len(frames):
            raise ImageError(f"{source} holds {frames.dtype} {list(frames.shape)}; expected uint8 RGB [N, H, W, 3]")
        return [frames[i] for i in _spread(len(frames), limit)]
    files = sorted(p for p in source.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES) if source.is_dir() else []
    if not files:
        raise ImageError(
            f"{source} holds no calibration frames; expected a folder of images ({', '.join(IMAGE_SUFFIXES)}) or a "
            ".npy file of uint8 RGB [N, H, W, 3]"
        )
    return [_read_image(files[i]) for i in _spread(len(files), limit)]


def _spread(count: int, limit: int) -> list[int]:
    """Evenly spaced indices of at most `limit` of `count` things."""
    return [int(i) for i in np.unique(np.linspace(0, count - 1, min(count, limit)).round())]


def _read_image(path: Path) -> NDArray[np.uint8]:
    image: Any = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise ImageError(f"{path} cannot be read as an image; take it out of the calibration frames")
    return np.ascontiguousarray(image[:, :, ::-1])


def calibrate(
    checkpoint: Checkpoint,
    precision: Precision,
    frames: Sequence[NDArray[np.uint8]],
    *,
    threads: int = 0,
    progress: Progress = lambda phase, done: None,
) -> InputScales:
    """Search AWQ-style scales of all linear layers of the decoder on frames.

    Args:
        checkpoint: opened, with tokenizer and chat template.
        precision: that the weights will be quantised to.
        frames: uint8 RGB [H, W, 3]; a few typical ones.
        threads: of the computation; 0 = one per core.
        progress: told phases and how far they are.

    Raises:
        CheckpointError: tokenizer or chat template are missing.
        MissingExtra: onnxruntime is not installed.
        EngineError: there are no frames, or one with its question is longer than the model's context.
    """
    turns = _turns(checkpoint, frames, threads, progress)
    found: dict[str, NDArray[np.float32]] = {}
    layers = checkpoint.config.text.layers
    for layer, samples in layer_inputs(checkpoint, turns, threads=threads):
        found |= input_scales(checkpoint, precision, samples)
        progress("Calibrating", (layer + 1) / layers)
    return InputScales(found)


def _turns(checkpoint: Checkpoint, frames: Sequence[NDArray[np.uint8]], threads: int, progress: Progress) -> list[Turn]:
    """Every question on every frame, its image encoded."""
    if not frames:
        raise EngineError("there are no frames to calibrate on; expected at least one")
    runtime = require("onnxruntime", "cpu")
    prompts = PromptEncoder.open(checkpoint.directory, checkpoint.config)
    rule = PreprocessConfig.read(checkpoint.directory, checkpoint.config.vision)
    vision = _session(runtime, build_vision(checkpoint, rule, best_opset(runtime)), threads)
    turns = []
    for number, frame in enumerate(frames):
        patches, grid = preprocess(frame, rule)
        (visual,) = vision.run(["visual"], vision_plan(checkpoint.config.vision, *grid).feeds(patches))
        for task, answer in _TURNS:
            prompt = prompts.encode(task.prompt(), [len(visual)], system=SYSTEM)
            ids = [*prompt.prefix, *prompt.suffix, *prompts.vocabulary.encode_text(answer)]
            if len(ids) > checkpoint.config.text.max_context:
                raise EngineError(
                    f"calibration frame {number} with its question takes {len(ids)} tokens; the checkpoint has "
                    f"positions for {checkpoint.config.text.max_context}: use smaller frames"
                )
            turns.append(Turn(np.array(ids, np.int64), visual))
        progress("Encoding calibration frames", (number + 1) / len(frames))
    return turns


def layer_inputs(
    checkpoint: Checkpoint, turns: Sequence[Turn], *, rows: int = ROWS_PER_LAYER, threads: int = 0, seed: int = 0
) -> Iterator[tuple[int, dict[str, NDArray[np.float32]]]]:
    """Run turns through the decoder, layer by layer.

    Args:
        checkpoint: opened.
        turns: to run; at least one.
        rows: of each layer's inputs to keep, drawn from all turns alike.
        threads: of the computation; 0 = one per core.
        seed: of the draw.

    Yields:
        The number of a layer, and by the name of each of its linear layers some of its inputs, float32 [n, in].
    """
    runtime = require("onnxruntime", "cpu")
    config = checkpoint.config
    longest = max(len(turn.tokens) for turn in turns)
    graph = build_decoder(checkpoint, longest, best_opset(runtime))
    entries: dict[int, dict[str, str]] = defaultdict(dict)
    for name, value in product_inputs(graph).items():
        if match := re.match(r"text\.layers\.(\d+)\.", name):
            entries[int(match[1])][name] = value
    # A layer begins where its projections read the residual stream.
    starts = [entries[layer][f"text.layers.{layer}.self_attn.q_proj"] for layer in range(config.text.layers)]
    table = checkpoint.read("text.embed_tokens.weight")
    streams = [_embedded(turn, table, config.image_token) for turn in turns]
    del table
    rng = np.random.default_rng(seed)
    share = -(-rows // len(turns))
    picks = [np.sort(rng.permutation(len(turn.tokens))[:share]) for turn in turns]
    for layer in range(config.text.layers):
        inner = sorted(set(entries[layer].values()) - {starts[layer]})
        after = starts[layer + 1 : layer + 2]
        session = _session(runtime, cut(graph, [starts[layer]], [*inner, *after]), threads)
        wanted = {value.name for value in session.get_inputs()}
        samples: dict[str, list[NDArray[np.float32]]] = defaultdict(list)
        for index, (turn, pick) in enumerate(zip(turns, picks, strict=True)):
            feeds = {starts[layer]: streams[index], **_feeds(checkpoint, turn, layer)}
            outputs = session.run([*inner, *after], {name: feeds[name] for name in wanted})
            for name, value in zip([starts[layer], *inner], [streams[index], *outputs], strict=False):
                samples[name].append(value[pick])
            streams[index] = outputs[-1] if after else streams[index]
        gathered = {name: np.concatenate(parts) for name, parts in samples.items()}
        yield layer, {name: gathered[value] for name, value in entries[layer].items()}


def _embedded(turn: Turn, table: NDArray[np.float32], image_token: int) -> NDArray[np.float32]:
    """The residual stream before the first layer, float32 [n, hidden]."""
    stream = table[turn.tokens]
    stream[turn.tokens == image_token] = turn.visual
    return stream


def _feeds(checkpoint: Checkpoint, turn: Turn, layer: int) -> dict[str, NDArray[Any]]:
    """Inputs of the decoder graph for one whole turn on an empty cache."""
    text, length = checkpoint.config.text, len(turn.tokens)
    at = np.arange(length)
    seen = at[None, :] <= at[:, None]
    window = text.sliding_window or length
    cache = np.zeros((1, text.kv_heads, length, text.head_dim), np.float32)
    return {
        "input_ids": turn.tokens[None],
        "position_ids": at[None],
        "write_index": np.zeros(1, np.int64),
        "mask_global": seen[None, None],
        "mask_local": (seen & (at[None, :] > at[:, None] - window))[None, None],
        f"past_k.{layer}": cache,
        f"past_v.{layer}": cache,
    }


def _session(runtime: Any, graph: Graph, threads: int) -> Any:
    """A session on the CPU; weights go through a file, so that they are in memory once."""
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory(prefix="exaone_ros_") as folder:
        path = Path(folder) / "part.onnx"
        graph.save(path, Weights.FILE)
        try:
            return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's errors share no base class but this
            raise EngineError(f"ONNX Runtime cannot load a part of '{graph.model.graph.name}': {error}") from error
