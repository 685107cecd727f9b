"""The default backend: ONNX Runtime over graphs built from the checkpoint; CPU, or CUDA where its wheel has it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from exaone_ros.engine.backend import DraftRow, Limits, Row, VisualTokens
from exaone_ros.engine.backends.batching import RUN_COST_TOKENS
from exaone_ros.engine.backends.bucketed_kv_cache import BucketedKvCache, host_buckets, one_bucket
from exaone_ros.engine.backends.denormals import Flushed, flush_in_threads
from exaone_ros.engine.backends.device_kv_cache import DeviceKvCache, device_of
from exaone_ros.engine.backends.kv_cache import token_bytes
from exaone_ros.engine.backends.mtp_slots import MtpSlots
from exaone_ros.engine.backends.onnx_support import best_opset
from exaone_ros.engine.backends.ring import CHUNK, Ring
from exaone_ros.engine.backends.rows import check_copy, check_rows, check_sizes, check_start
from exaone_ros.engine.backends.slot_graph import SlotGraph
from exaone_ros.errors import CheckpointError, EngineError, require
from exaone_ros.model.awq import InputScales
from exaone_ros.model.checkpoint import Checkpoint
from exaone_ros.model.config import SLIDING, TextConfig
from exaone_ros.model.decoder_graph import KvWrite, build_decoder
from exaone_ros.model.emulate import emulated, folded
from exaone_ros.model.mtp_graph import build_mtp
from exaone_ros.model.onnx_graph import Graph, Weights
from exaone_ros.model.precision import FLOAT32, PRECISIONS, Precision
from exaone_ros.model.preprocess import PreprocessConfig, preprocess
from exaone_ros.model.quantize import linear_source
from exaone_ros.model.vision_graph import build_vision
from exaone_ros.model.vision_plan import vision_plan


class OnnxRuntimeBackend:
    """Backend over ONNX Runtime. KV caches are bound in place: a decode step copies nothing.

    Attributes:
        opset: of the graphs that run.
    """

    name = "onnxruntime"

    def __init__(
        self,
        checkpoint_dir: str | Path,
        *,
        slots: int,
        context: int,
        threads: int = 0,
        device: str = "cpu",
        mtp: bool = False,
        visual_tokens: int = 0,
        opset: int | None = None,
        kv_write: KvWrite | None = None,
        precision: Precision = FLOAT32,
        scales: InputScales | None = None,
        chunk: int = CHUNK,
    ) -> None:
        """Build the graphs and load them; takes about as long as reading the weights.

        Args:
            checkpoint_dir: Hugging Face directory of an EXAONE 4.5 checkpoint.
            slots: KV cache slots.
            context: tokens that fit into one slot.
            threads: of the computation; 0 = one per core.
            device: "cpu", or "cuda" / "cuda:N" with the wheel onnxruntime-gpu.
            mtp: load the checkpoint's MTP layer too, to draft with.
            visual_tokens: most that an image may take, larger ones are shrunk; 0 = what the checkpoint allows.
            opset: of the graphs, 18 to 24; None = the latest that the installed runtime has.
            kv_write: how keys and values are written; default: the best that the opset has.
            precision: whose numbers the answers are to be made of. Anything but float32 is emulated, to measure what it
                costs in accuracy: computed in float32, and rounded after every operator.
            scales: AWQ-style scales of a quantised precision.
            chunk: tokens of a row in one run once it is longer than what sliding-window layers hold, which is their
                window and as many tokens more; about as far can a slot be set back then. With less than 128, drafts
                are shorter: see `Limits.draft`.

        Raises:
            CheckpointError: the checkpoint cannot be used, or has no MTP layer where one is asked for.
            EngineError: sizes make no sense, or the device is not there.
            MissingExtra: onnxruntime or onnx is not installed.
        """
        runtime = require("onnxruntime", "cpu" if device == "cpu" else "gpu")
        checkpoint = Checkpoint.open(checkpoint_dir)
        self._config = checkpoint.config
        check_sizes(self._config, slots, context, threads, visual_tokens)
        self._preprocess = PreprocessConfig.read(checkpoint_dir, self._config.vision).within(visual_tokens)
        if chunk < 1:
            raise EngineError(f"chunk is {chunk}; expected at least 1")
        text, most = self._config.text, self._preprocess.max_visual_tokens
        ring = Ring.of(text, context, chunk)
        draft = ring.draft if ring else None
        self._limits = Limits(slots, context, text.vocab, most, token_bytes(text, 4), draft)
        provider = _provider(runtime, device)
        self.opset = best_opset(runtime) if opset is None else opset
        compact = precision == FLOAT32  # what is emulated has the operators of the graph that it stands for
        plain = PRECISIONS[precision.compute.name]
        graph = build_vision(checkpoint, self._preprocess, self.opset, plain, compact=compact)
        self._vision: Any = _session(runtime, graph, provider, threads, emulate=precision.mixed)
        self._device = device_of(provider)
        self._flushed = Flushed()

        def slot_graph(graph: Graph, layers: TextConfig, ring: Ring | None, *, emulate: bool = False) -> SlotGraph:
            session = _session(runtime, graph, provider, threads, emulate=emulate)
            caches: BucketedKvCache[Any] = (
                host_buckets(layers, slots, context, ring)
                if self._device[0] == "cpu"
                else one_bucket(DeviceKvCache(runtime, layers, slots, context, provider, ring), slots, context)
            )
            image_token, window = self._config.image_token, layers.sliding_window
            return SlotGraph(session, caches, self._device, self._limits, image_token, text.hidden, window, ring)

        linears = linear_source(checkpoint, precision, scales.by_layer if scales else None)
        opset = max(self.opset, precision.min_opset)
        graph = build_decoder(
            checkpoint,
            context,
            opset,
            kv_write,
            precision,
            linears,
            hidden_output=mtp,
            compact=compact,
            ring=ring.length if ring else None,
        )
        self._decoder = slot_graph(graph, text, ring, emulate=precision != FLOAT32)
        self._mtp: MtpSlots | None = None
        if mtp:  # in float32 always: its precision changes no answer
            kind = text.mtp_layer_type
            window = text.sliding_window if kind == SLIDING else None
            alone = replace(text, layers=1, layer_types=(kind,), sliding_window=window)
            # It runs ahead of the decoder by a draft, and is set back together with it.
            ring = Ring.of(alone, context, chunk, spare=chunk + 2 * RUN_COST_TOKENS)
            layer = slot_graph(build_mtp(checkpoint, context, self.opset, kv_write, compact=True), alone, ring)
            self._mtp = MtpSlots(layer, self._limits, text.hidden, self._config.image_token)

    @property
    def limits(self) -> Limits:
        return self._limits

    def encode(self, image: NDArray[np.uint8]) -> VisualTokens:
        self._check_open()
        began = time.perf_counter()
        patches, grid = preprocess(image, self._preprocess)
        feeds = vision_plan(self._config.vision, *grid).feeds(patches)
        took = time.perf_counter() - began
        try:
            with self._flushed:
                (embeddings,) = self._vision.run(["visual"], feeds)
        except Exception as error:  # ONNX Runtime's errors share no base class but this
            raise EngineError(f"the vision encoder failed on a grid of {grid}: {error}") from error
        return VisualTokens(embeddings, grid, took)

    def run(self, rows: Sequence[Row]) -> list[NDArray[np.float32]]:
        self._check_open()
        check_rows(rows, self._limits, self._config.image_token)
        for row in rows:
            check_start(row, self._decoder.held)
        results = self._decoder.run(rows)
        if self._mtp is not None:
            self._mtp.follow(rows, results)
        return [result.logits for result in results]

    def keeps(self, slot: int, length: int) -> bool:
        """As `WindowedBackend.keeps`."""
        self._check_open()
        return self._decoder.keeps(slot, length)

    def copy(self, source: int, targets: Sequence[int], length: int) -> None:
        self._check_open()
        check_copy(source, targets, length, self._decoder.held)
        self._decoder.copy(source, targets, length)
        if self._mtp is not None:
            self._mtp.copy(source, targets, length)

    @property
    def drafts(self) -> bool:
        """True where it was opened with `mtp`."""
        return self._mtp is not None

    def draft(self, rows: Sequence[DraftRow]) -> list[NDArray[np.float32]]:
        """As `DraftingBackend.draft`; EngineError where the backend was opened without `mtp`."""
        self._check_open()
        if self._mtp is None:
            raise EngineError("the backend was opened without its MTP layer; open it with mtp=True to draft")
        return self._mtp.draft(rows, self._decoder.held)

    def close(self) -> None:
        self._vision = self._mtp = None
        self._decoder = None  # type: ignore[assignment]  # frees the memory; _check_open keeps everybody away

    def _check_open(self) -> None:
        if self._decoder is None:
            raise EngineError("the backend is closed; open a new one")


def _provider(runtime: Any, device: str) -> tuple[str, dict[str, Any]]:
    """Name and options of ONNX Runtime's provider for a device."""
    if device == "cpu":
        return "CPUExecutionProvider", {}
    kind, _, number = device.partition(":")
    if kind != "cuda" or not (number or "0").isdigit():
        raise EngineError(f"device is {device!r}; expected 'cpu', 'cuda' or 'cuda:N'")
    if "CUDAExecutionProvider" not in runtime.get_available_providers():
        raise EngineError(
            f"device is {device!r}, but this onnxruntime has no CUDA: pip install 'exaone_ros[gpu]' in place of "
            "onnxruntime, or use device 'cpu'"
        )
    return "CUDAExecutionProvider", {"device_id": int(number or 0)}


def _session(
    runtime: Any, graph: Graph, provider: tuple[str, dict[str, Any]], threads: int, *, emulate: bool = False
) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Idle threads must not spin between two calls: the node shares its cores with everything else on the robot.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    flush_in_threads(runtime, options)
    try:
        session = _load(runtime, graph, options, provider, emulate=emulate)
    except CheckpointError:
        raise
    except Exception as error:  # ONNX Runtime's errors share no base class but this
        raise EngineError(f"ONNX Runtime cannot load graph '{graph.model.graph.name}': {error}") from error
    if provider[0] not in session.get_providers():
        raise EngineError(f"ONNX Runtime could not start {provider[0]}; its CUDA libraries are missing or do not fit")
    return session


def _load(runtime: Any, graph: Graph, options: Any, provider: tuple[str, dict[str, Any]], *, emulate: bool) -> Any:
    if emulate:
        model = emulated(folded(onnx.load_from_string(graph.to_bytes())))
        return runtime.InferenceSession(model.SerializeToString(), options, providers=[provider])
    if graph.fits_inline:
        return runtime.InferenceSession(graph.to_bytes(), options, providers=[provider])
    with tempfile.TemporaryDirectory(prefix="exaone_ros_") as folder:
        path = Path(folder) / "model.onnx"
        graph.save(path, Weights.FILE)
        return runtime.InferenceSession(str(path), options, providers=[provider])
