"""The default backend: ONNX Runtime over graphs built from the checkpoint; CPU, or CUDA where its wheel has it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exaone_ros.engine.backend import Limits, Row, VisualTokens
from exaone_ros.engine.backends.batching import Batch, plan_batches
from exaone_ros.engine.backends.device_kv_cache import DeviceKvCache, device_of
from exaone_ros.engine.backends.kv_cache import HostKvCache, KvCache
from exaone_ros.engine.backends.onnx_support import best_opset
from exaone_ros.engine.backends.rows import check_copy, check_rows, check_sizes, check_start
from exaone_ros.errors import CheckpointError, EngineError, require
from exaone_ros.model.checkpoint import Checkpoint
from exaone_ros.model.decoder_graph import KvWrite, build_decoder
from exaone_ros.model.onnx_graph import Graph, Weights
from exaone_ros.model.preprocess import PreprocessConfig, preprocess
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
        opset: int | None = None,
        kv_write: KvWrite | None = None,
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
        graph = build_vision(checkpoint, self._preprocess, self.opset)
        self._vision: Any = _session(runtime, graph, provider, threads)
        graph = build_decoder(checkpoint, context, self.opset, kv_write)
        self._decoder: Any = _session(runtime, graph, provider, threads)
        self._inputs = {value.name for value in self._decoder.get_inputs()}
        self._device = device_of(provider)
        self._cache: KvCache = (
            HostKvCache(self._config.text, slots, context)
            if self._device[0] == "cpu"
            else DeviceKvCache(runtime, self._config.text, slots, context, provider)
        )
        self._held = np.zeros(slots, np.int64)
        self._bindings: dict[tuple[int, int], Any] = {}
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
        self._cache = None  # type: ignore[assignment]  # frees the memory; _check_open keeps everybody away

    def _check_open(self) -> None:
        if self._decoder is None:
            raise EngineError("the backend is closed; open a new one")

    def _run_batch(self, batch: Batch, rows: Sequence[Row]) -> dict[int, NDArray[np.float32]]:
        """Run one batch; returns the logits of its rows by their index."""
        slots = slice(batch.first_slot, batch.first_slot + len(batch.rows))
        starts = self._held[slots].copy()  # fillers write behind what their slot holds
        for place, index in enumerate(batch.rows):
            if index is not None:
                starts[place] = rows[index].start
        if self._cache.ensure(int(starts.max()) + batch.length, self._held):
            self._bindings.clear()
        feeds, wanted = self._feeds(batch, rows, starts)
        out = np.empty((max(1, len(feeds["logit_rows"])), self._limits.vocab), np.float32)
        binding = self._binding(batch.first_slot, len(batch.rows))
        for name in self._inputs & feeds.keys():
            binding.bind_cpu_input(name, feeds[name])
        binding.bind_output("logits", "cpu", 0, np.float32, out.shape, out.ctypes.data)
        try:
            self._decoder.run_with_iobinding(binding)
        except Exception as error:  # ONNX Runtime's errors share no base class but this
            raise EngineError(f"the decoder failed on {len(batch.rows)} x {batch.length} tokens: {error}") from error
        logits, at = {}, 0
        for index, count in wanted:
            row = rows[index]
            self._held[row.slot] = row.start + len(row.tokens)
            logits[index] = out[at : at + count]
            at += count
        return logits

    def _feeds(
        self, batch: Batch, rows: Sequence[Row], starts: NDArray[np.int64]
    ) -> tuple[dict[str, NDArray[Any]], list[tuple[int, int]]]:
        """Inputs of the graph besides the caches, and (row index, number of logits) in the order of the logits."""
        shape = (len(batch.rows), batch.length)
        ids, visual_row = np.zeros(shape, np.int64), np.full(shape, -1, np.int64)
        visual: list[NDArray[np.float32]] = []
        logit_rows: list[int] = []
        wanted: list[tuple[int, int]] = []
        seen = 0
        for place, index in enumerate(batch.rows):
            if index is None:
                continue
            row, count = rows[index], len(rows[index].tokens)
            ids[place, :count] = row.tokens
            pads = np.flatnonzero(row.tokens == self._config.image_token)
            visual_row[place, pads] = seen + np.arange(len(pads))
            seen += len(pads)
            visual += [_embeddings(image) for image in row.visual]
            end = place * batch.length + count
            logit_rows += range(end - row.logits, end)
            wanted.append((index, row.logits))
        positions = starts[:, None] + np.arange(batch.length)
        feeds: dict[str, NDArray[Any]] = {
            "input_ids": ids,
            "visual": np.concatenate(visual) if visual else self._no_visual,
            "visual_row": visual_row,
            "position_ids": positions,
            "write_index": starts,
            # At least one: an empty product is not worth finding out how every runtime treats it.
            "logit_rows": np.array(logit_rows or [0], np.int64),
        }
        return {**feeds, **self._masks(positions)}, wanted

    def _masks(self, positions: NDArray[np.int64]) -> Mapping[str, NDArray[np.bool_]]:
        """Which cache entries each query sees, bool [B, 1, S, capacity]; positions int64 [B, S]."""
        key, query = np.arange(self._cache.capacity), positions[:, None, :, None]
        seen = key <= query
        window = self._config.text.sliding_window
        local = seen if window is None or window >= self._cache.capacity else seen & (key > query - window)
        return {"mask_global": seen, "mask_local": local}

    def _binding(self, first_slot: int, slots: int) -> Any:
        """The caches of neighbouring slots bound as input and, in place, as output; kept until memory moves."""
        binding = self._bindings.get((first_slot, slots))
        if binding is None:
            binding = self._decoder.io_binding()
            shape = self._cache.shape(slots)
            for name in self._cache.names:
                place = self._cache.place(name, first_slot)
                binding.bind_input(f"past_{name}", *self._device, np.float32, shape, place)
                binding.bind_output(f"present_{name}", *self._device, np.float32, shape, place)
            self._bindings[first_slot, slots] = binding
        return binding


def _embeddings(image: VisualTokens) -> NDArray[np.float32]:
    if not isinstance(image.embeddings, np.ndarray):
        raise EngineError(
            f"visual tokens are a {type(image.embeddings).__name__}; expected those of this backend's encode()"
        )
    return image.embeddings


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


def _session(runtime: Any, graph: Graph, provider: tuple[str, dict[str, Any]], threads: int) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Idle threads must not spin between two calls: the node shares its cores with everything else on the robot.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        session = _load(runtime, graph, options, provider)
    except CheckpointError:
        raise
    except Exception as error:  # ONNX Runtime's errors share no base class but this
        raise EngineError(f"ONNX Runtime cannot load graph '{graph.model.graph.name}': {error}") from error
    if provider[0] not in session.get_providers():
        raise EngineError(f"ONNX Runtime could not start {provider[0]}; its CUDA libraries are missing or do not fit")
    return session


def _load(runtime: Any, graph: Graph, options: Any, provider: tuple[str, dict[str, Any]]) -> Any:
    if graph.fits_inline:
        return runtime.InferenceSession(graph.to_bytes(), options, providers=[provider])
    with tempfile.TemporaryDirectory(prefix="exaone_ros_") as folder:
        path = Path(folder) / "model.onnx"
        graph.save(path, Weights.FILE)
        return runtime.InferenceSession(str(path), options, providers=[provider])
