"""The default backend: ONNX Runtime over graphs built from the checkpoint; CPU, or CUDA where its wheel has it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from exaone_ros.engine.backend import Limits, Row, VisualTokens
from exaone_ros.engine.backends.batching import Batch, plan_batches
from exaone_ros.engine.backends.decoder_inputs import DecoderInputs
from exaone_ros.engine.backends.device_kv_cache import DeviceKvCache, device_of
from exaone_ros.engine.backends.kv_cache import HostKvCache, KvCache
from exaone_ros.engine.backends.onnx_support import best_opset
from exaone_ros.engine.backends.rows import check_copy, check_rows, check_sizes, check_start
from exaone_ros.errors import CheckpointError, EngineError, require
from exaone_ros.model.awq import InputScales
from exaone_ros.model.checkpoint import Checkpoint
from exaone_ros.model.decoder_graph import KvWrite, build_decoder
from exaone_ros.model.emulate import emulated, folded
from exaone_ros.model.onnx_graph import Graph, Weights
from exaone_ros.model.precision import FLOAT32, PRECISIONS, Precision
from exaone_ros.model.preprocess import PreprocessConfig, preprocess
from exaone_ros.model.quantize import linear_source
from exaone_ros.model.vision_graph import build_vision
from exaone_ros.model.vision_plan import vision_plan

KEPT_LENGTH = 8
KEPT_RUNS = 64
"""Runs of at most this many tokens a slot are decode steps: their inputs stay bound, for this many shapes of a run."""


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
        opset: int | None = None,
        kv_write: KvWrite | None = None,
        precision: Precision = FLOAT32,
        scales: InputScales | None = None,
    ) -> None:
        """Build the graphs and load them; takes about as long as reading the weights.

        Args:
            checkpoint_dir: Hugging Face directory of an EXAONE 4.5 checkpoint.
            slots: KV cache slots.
            context: tokens that fit into one slot.
            threads: of the computation; 0 = one per core.
            device: "cpu", or "cuda" / "cuda:N" with the wheel onnxruntime-gpu.
            opset: of the graphs, 18 to 24; None = the latest that the installed runtime has.
            kv_write: how keys and values are written; default: the best that the opset has.
            precision: whose numbers the answers are to be made of. Anything but float32 is emulated, to measure what it
                costs in accuracy: computed in float32, and rounded after every operator.
            scales: AWQ-style scales of a quantised precision.

        Raises:
            CheckpointError: the checkpoint cannot be used.
            EngineError: sizes make no sense, or the device is not there.
            MissingExtra: onnxruntime or onnx is not installed.
        """
        runtime = require("onnxruntime", "cpu" if device == "cpu" else "gpu")
        checkpoint = Checkpoint.open(checkpoint_dir)
        self._config = checkpoint.config
        self._preprocess = PreprocessConfig.read(checkpoint_dir, self._config.vision)
        check_sizes(self._config, slots, context, threads)
        self._limits = Limits(slots, context, self._config.text.vocab, self._preprocess.max_visual_tokens)
        provider = _provider(runtime, device)
        self.opset = best_opset(runtime) if opset is None else opset
        graph = build_vision(checkpoint, self._preprocess, self.opset, PRECISIONS[precision.compute.name])
        self._vision: Any = _session(runtime, graph, provider, threads, emulate=precision.mixed)
        linears = linear_source(checkpoint, precision, scales.by_layer if scales else None)
        graph = build_decoder(checkpoint, context, max(self.opset, precision.min_opset), kv_write, precision, linears)
        self._decoder: Any = _session(runtime, graph, provider, threads, emulate=precision != FLOAT32)
        self._inputs = {value.name for value in self._decoder.get_inputs()}
        self._device = device_of(provider)
        self._cache: KvCache = (
            HostKvCache(self._config.text, slots, context)
            if self._device[0] == "cpu"
            else DeviceKvCache(runtime, self._config.text, slots, context, provider)
        )
        self._held = np.zeros(slots, np.int64)
        self._bindings: dict[tuple[int, int], Any] = {}
        self._kept: dict[tuple[int, int, int, int], tuple[DecoderInputs, Any]] = {}
        self._no_visual = np.zeros((1, self._config.text.hidden), np.float32)

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
            (embeddings,) = self._vision.run(["visual"], feeds)
        except Exception as error:  # ONNX Runtime's errors share no base class but this
            raise EngineError(f"the vision encoder failed on a grid of {grid}: {error}") from error
        return VisualTokens(embeddings, grid, took)

    def run(self, rows: Sequence[Row]) -> list[NDArray[np.float32]]:
        self._check_open()
        check_rows(rows, self._limits, self._config.image_token)
        for row in rows:
            check_start(row, self._held)
        logits: dict[int, NDArray[np.float32]] = {}
        for batch in plan_batches(rows, self._held.tolist(), self._limits.context):
            logits.update(self._run_batch(batch, rows))
        return [logits[i] for i in range(len(rows))]

    def copy(self, source: int, targets: Sequence[int], length: int) -> None:
        self._check_open()
        check_copy(source, targets, length, self._held)
        self._cache.copy(source, targets, length)
        self._held[list(targets)] = length

    def close(self) -> None:
        self._vision = self._decoder = None
        self._bindings.clear()
        self._kept.clear()
        self._cache = None  # type: ignore[assignment]  # frees the memory; _check_open keeps everybody away

    def _check_open(self) -> None:
        if self._decoder is None:
            raise EngineError("the backend is closed; open a new one")

    def _run_batch(self, batch: Batch, rows: Sequence[Row]) -> dict[int, NDArray[np.float32]]:
        """Run one batch; returns the logits of its rows by their index."""
        slots = slice(batch.first_slot, batch.first_slot + len(batch.rows))
        starts = self._held[slots].copy()  # fillers write behind what their slot holds
        count = 0
        for place, index in enumerate(batch.rows):
            if index is not None:
                starts[place] = rows[index].start
                count += rows[index].logits
        if self._cache.ensure(int(starts.max()) + batch.length, self._held):
            self._bindings.clear()
            self._kept.clear()
        inputs, binding, wanted = self._bound(batch, rows, starts, count)
        try:
            self._decoder.run_with_iobinding(binding)
        except Exception as error:  # ONNX Runtime's errors share no base class but this
            raise EngineError(f"the decoder failed on {len(batch.rows)} x {batch.length} tokens: {error}") from error
        logits = {}
        for index, first, end in wanted:
            row = rows[index]
            self._held[row.slot] = row.start + len(row.tokens)
            logits[index] = inputs.logits[first:end].copy()  # the next run writes there again
        return logits

    def _bound(
        self, batch: Batch, rows: Sequence[Row], starts: NDArray[np.int64], count: int
    ) -> tuple[DecoderInputs, Any, list[tuple[int, int, int]]]:
        """A batch's inputs, filled, and the binding that they are bound to with the caches and `count` logits."""
        slots, length = len(batch.rows), batch.length
        key = (batch.first_slot, slots, length, count)
        sees = any(rows[index].visual for index in batch.rows if index is not None)
        # A binding to another device copies what it is bound to there and then: filling it anew would not be seen.
        short = length <= KEPT_LENGTH and not sees and self._device[0] == "cpu"
        if short and key in self._kept:
            inputs, binding = self._kept[key]
            return inputs, binding, inputs.fill(batch, rows, starts, self._config.image_token)
        window = self._config.text.sliding_window
        capacity, vocab = self._cache.capacity, self._limits.vocab
        inputs = DecoderInputs(slots, length, capacity, window, count, vocab, self._no_visual)
        wanted = inputs.fill(batch, rows, starts, self._config.image_token)
        if len(self._kept) >= KEPT_RUNS:
            self._kept.clear()
        binding = self._bind_caches(batch.first_slot, slots) if short else self._binding(batch.first_slot, slots)
        for name in self._inputs & inputs.feeds.keys():
            binding.bind_cpu_input(name, inputs.feeds[name])
        out = inputs.logits
        binding.bind_output("logits", "cpu", 0, np.float32, out.shape, out.ctypes.data)
        if short:
            self._kept[key] = inputs, binding
        return inputs, binding, wanted

    def _binding(self, first_slot: int, slots: int) -> Any:
        """The caches of neighbouring slots, bound; kept until memory moves, the other inputs are bound at each run."""
        if (first_slot, slots) not in self._bindings:
            self._bindings[first_slot, slots] = self._bind_caches(first_slot, slots)
        return self._bindings[first_slot, slots]

    def _bind_caches(self, first_slot: int, slots: int) -> Any:
        """The caches of neighbouring slots bound as input and, in place, as output."""
        binding = self._decoder.io_binding()
        shape = self._cache.shape(slots)
        for name in self._cache.names:
            place = self._cache.place(name, first_slot)
            binding.bind_input(f"past_{name}", *self._device, np.float32, shape, place)
            binding.bind_output(f"present_{name}", *self._device, np.float32, shape, place)
        return binding


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
