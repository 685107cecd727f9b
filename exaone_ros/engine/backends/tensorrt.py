"""The backend for Jetson and discrete GPUs: engines made by `exaone compile`, run without leaving the device.

Host and device meet once in a call: when the logits come back. Visual tokens stay on the device.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exaone_ros.engine.backend import Limits, Row, VisualTokens
from exaone_ros.engine.backends.batching import Batch, plan_batches
from exaone_ros.engine.backends.kv_cache import cache_lengths, token_bytes
from exaone_ros.engine.backends.ring import Intact, room
from exaone_ros.engine.backends.rows import check_copy, check_kept, check_rows, check_sizes, check_start
from exaone_ros.engine.tensorrt.buffers import Arena, DeviceCaches, DeviceEmbeddings, Staging, VisualPool
from exaone_ros.engine.tensorrt.compile import Compiled, find_compiled
from exaone_ros.engine.tensorrt.cuda import Cuda, CudaRuntime
from exaone_ros.engine.tensorrt.plan import DECODER_INPUTS, VISION_INPUTS, Shape
from exaone_ros.engine.tensorrt.rows import Piece, Run, lay_out, rounds
from exaone_ros.engine.tensorrt.session import EngineSession
from exaone_ros.engine.tensorrt.step_graphs import STEP_TOKENS, StepGraphs
from exaone_ros.engine.tensorrt.versions import Library, load_library
from exaone_ros.errors import EngineError
from exaone_ros.model.checkpoint import Checkpoint
from exaone_ros.model.preprocess import PreprocessConfig, preprocess
from exaone_ros.model.vision_plan import vision_plan


class TensorRtBackend:
    """Backend over two TensorRT engines."""

    name = "tensorrt"

    def __init__(
        self,
        checkpoint_dir: str | Path,
        *,
        slots: int,
        context: int,
        device: str = "cuda",
        visual_tokens: int = 0,
        precision: str | None = None,
        cache_root: Path | None = None,
        library: Library | None = None,
        cuda: Cuda | None = None,
    ) -> None:
        """Load the engines of a checkpoint.

        Args:
            checkpoint_dir: Hugging Face directory of an EXAONE 4.5 checkpoint.
            slots: KV cache slots, at most those that the engines were compiled for.
            context: tokens that fit into one slot, likewise.
            device: "cuda" or "cuda:N".
            visual_tokens: most that an image may take; larger ones are shrunk, and in any case to what the engines
                were compiled for. 0 = no less than that.
            precision: of the engines; None takes the newest that fit.
            cache_root: where the engines are; None: `cache.default_root()`.
            library, cuda: what to run on; None: what is installed.

        Raises:
            CheckpointError: the checkpoint cannot be used.
            EngineError: no engines fit, sizes make no sense, or there is no such device.
            MissingExtra: TensorRT is not installed.
        """
        kind, _, number = device.partition(":")
        if kind != "cuda" or not (number or "0").isdigit():
            raise EngineError(f"device is {device!r}; backend 'tensorrt' runs on 'cuda' or 'cuda:N'")
        library = library or load_library()
        checkpoint = Checkpoint.open(checkpoint_dir)
        self._config = checkpoint.config
        check_sizes(self._config, slots, context, 0, visual_tokens)
        rule = PreprocessConfig.read(checkpoint_dir, self._config.vision).within(visual_tokens)
        self._cuda = cuda or CudaRuntime(int(number or 0))
        compiled = find_compiled(
            checkpoint, library, self._cuda.device(), slots=slots, context=context, precision=precision, root=cache_root
        )
        self._capacity = compiled.capacity
        self._preprocess = rule.within(compiled.capacity.visual_tokens)
        most = self._preprocess.max_visual_tokens
        text, item_bytes = self._config.text, compiled.precision.compute.itemsize
        self._limits = Limits(slots, context, text.vocab, most, token_bytes(text, item_bytes))
        self._ring = compiled.capacity.ring(self._config.text)
        self._intact = Intact(self._ring, slots)
        self._held = np.zeros(slots, np.int64)
        self._stream = self._cuda.stream()
        self._arena = Arena(self._cuda)
        self._closed = False
        try:
            self._open(compiled, library, slots)
        except BaseException:
            self.close()
            raise

    def _open(self, compiled: Compiled, library: Library, slots: int) -> None:
        arena, cuda, text = self._arena, self._cuda, self._config.text
        self._vision = EngineSession(library, compiled.vision, self._stream)
        self._decoder = EngineSession(library, compiled.decoder, self._stream)
        scratch = arena.device(max(self._vision.scratch_bytes, self._decoder.scratch_bytes), "activations")
        for session in (self._vision, self._decoder):
            session.use_scratch(scratch)
        self._steps = StepGraphs(cuda, self._stream, self._decoder)
        self._vision_inputs = self._stage(self._vision, VISION_INPUTS)
        self._decoder_inputs = self._stage(self._decoder, DECODER_INPUTS)
        token_bytes = text.hidden * 4
        self._token_bytes = token_bytes
        self._pool = VisualPool(arena, self._capacity.visual_tokens * token_bytes)
        self._visual = arena.device(self._capacity.visual_tokens * token_bytes, "buffers")
        cuda.zero(self._visual, token_bytes, self._stream)
        self._caches = DeviceCaches(
            arena, cuda, self._stream, cache_lengths(text, self._capacity.context, self._ring),
            (slots, text.kv_heads, text.head_dim),
            item_bytes=compiled.precision.compute.itemsize, aliased=library.target.aliased_kv,
        )  # fmt: skip
        self._logits = arena.device(self._capacity.logits * text.vocab * 4, "buffers")
        self._host_logits = arena.pinned(self._capacity.logits * text.vocab * 4)
        self._busy = False

    def _stage(self, session: EngineSession, sizes: dict[str, int]) -> dict[str, Staging]:
        volume = {name: int(np.prod(session.largest(name))) for name in session.inputs if name in sizes}
        return {name: Staging(self._arena, self._cuda, count * sizes[name]) for name, count in volume.items()}

    @property
    def limits(self) -> Limits:
        return self._limits

    @property
    def device_bytes(self) -> int:
        """Device memory that the backend itself allocated; the engines' weights and CUDA's own come on top."""
        return self._arena.device_bytes

    @property
    def device_bytes_by_purpose(self) -> dict[str, int]:
        """The same by the names of `tensorrt.memory.MemoryEstimate`: caches, buffers, pictures, activations."""
        return dict(self._arena.by_purpose)

    def encode(self, image: NDArray[np.uint8]) -> VisualTokens:
        self._check_open()
        began = time.perf_counter()
        patches, grid = preprocess(image, self._preprocess)
        count = grid[0] * grid[1]
        feeds = vision_plan(self._config.vision, *grid).feeds(patches)
        took = time.perf_counter() - began
        self._wait()
        for name, values in feeds.items():
            self._vision_inputs[name].fill(values)
            self._vision_inputs[name].upload(self._stream)
        embeddings = self._pool.take(count)
        shapes: dict[str, Shape] = {name: values.shape for name, values in feeds.items()}
        addresses = {name: staging.address for name, staging in self._vision_inputs.items()}
        addresses["visual"] = embeddings.address
        self._vision.enqueue(self._vision.profile_for(shapes), shapes, addresses)
        self._busy = True
        return VisualTokens(embeddings, grid, took)

    def run(self, rows: Sequence[Row]) -> list[NDArray[np.float32]]:
        self._check_open()
        check_rows(rows, self._limits, self._config.image_token)
        for row in rows:
            check_start(row, self._held)
            check_kept(row.slot, row.start, self._intact)
            for image in row.visual:
                self._check_embeddings(image)
        for row in rows:
            self._held[row.slot] = row.start
            if row.start == 0:
                self._intact.restart(row.slot)
        found: list[list[NDArray[np.float32]]] = [[] for _ in rows]
        free = partial(room, self._ring, self._limits.context)
        for pieces in rounds(rows, self._capacity, self._config.image_token, self._ring):
            for batch in plan_batches([p.row for p in pieces], self._held.tolist(), free):
                for number, logits in self._run_batch(batch, pieces, rows):
                    found[pieces[number].index].append(logits)
        return [np.concatenate(parts) for parts in found]

    def copy(self, source: int, targets: Sequence[int], length: int) -> None:
        self._check_open()
        check_copy(source, targets, length, self._held)
        check_kept(source, length, self._intact)
        self._caches.copy(source, targets, length)
        self._held[list(targets)] = length
        self._intact.copied(source, list(targets))

    def keeps(self, slot: int, length: int) -> bool:
        """As `WindowedBackend.keeps`."""
        self._check_open()
        return self._intact.keeps(slot, length)

    def close(self) -> None:
        """Free all memory of the device: graphs, engines, buffers, stream, in this order."""
        if self._closed:
            return
        self._closed = True
        self._cuda.synchronize(self._stream)
        if hasattr(self, "_steps"):
            self._steps.close()
        for session in ("_vision", "_decoder"):
            if hasattr(self, session):
                getattr(self, session).close()
        self._arena.close()
        self._cuda.free_stream(self._stream)

    def _check_open(self) -> None:
        if self._closed:
            raise EngineError("the backend is closed; open a new one")

    def _check_embeddings(self, image: VisualTokens) -> None:
        held = image.embeddings
        if not isinstance(held, DeviceEmbeddings) or held.owner is not self._pool:
            raise EngineError(
                f"visual tokens are a {type(held).__name__}; expected those of this backend's own encode()"
            )

    def _wait(self) -> None:
        """Pinned memory may be written again only when the stream has read it."""
        if self._busy:
            self._cuda.synchronize(self._stream)
            self._busy = False

    def _run_batch(
        self, batch: Batch, pieces: Sequence[Piece], rows: Sequence[Row]
    ) -> list[tuple[int, NDArray[np.float32]]]:
        """Run one batch; for each of its pieces its number and its logits."""
        text = self._config.text
        run = lay_out(
            batch, pieces, self._held, self._capacity.context, text.sliding_window, self._config.image_token, self._ring
        )  # fmt: skip
        self._wait()
        at = 0
        for number, _ in run.wanted:
            piece = pieces[number]
            self._gather_visual(rows[piece.index], piece.visual, at)
            at += piece.visual[1]
        for name, staging in self._decoder_inputs.items():
            staging.fill(run.feeds[name])
        wanted = sum(count for _, count in run.wanted)
        for place, start in enumerate(run.starts.tolist()):  # before the run: what it overwrites is lost though it fail
            self._intact.wrote(batch.first_slot + place, start + batch.length)
        self._execute(batch, run, wanted)
        self._busy = True
        for number, _ in run.wanted:
            row = pieces[number].row
            self._caches.keep(row.slot, row.start, len(row.tokens))
            self._held[row.slot] = row.start + len(row.tokens)
        if wanted:
            self._wait()
        logits = self._host_logits.view(np.float32)[: wanted * text.vocab].reshape(wanted, text.vocab).copy()
        ends = np.cumsum([count for _, count in run.wanted])
        return [(number, logits[end - count : end]) for (number, count), end in zip(run.wanted, ends, strict=True)]

    def _gather_visual(self, row: Row, part: tuple[int, int], at: int) -> None:
        """Copy a part (first, count) of a row's visual tokens into the decoder's input, from its row `at` on."""
        first, count = part
        begin = 0
        for image in row.visual:
            assert isinstance(image.embeddings, DeviceEmbeddings)
            low, high = max(first, begin), min(first + count, begin + image.count)
            if low < high:
                source = image.embeddings.address + (low - begin) * self._token_bytes
                target = self._visual + (at + low - first) * self._token_bytes
                self._cuda.copy(target, source, (high - low) * self._token_bytes, self._stream)
            begin += image.count

    def _execute(self, batch: Batch, run: Run, wanted: int) -> None:
        """Upload, run, download. Decode steps that repeat, with drafts or without, are replayed as CUDA graphs."""
        text = self._config.text
        shapes: dict[str, Shape] = {name: run.feeds[name].shape for name in self._decoder_inputs}
        shapes["visual"] = (run.visual, text.hidden)
        shapes |= self._caches.shapes(len(batch.rows), text.head_dim)
        addresses = {name: staging.address for name, staging in self._decoder_inputs.items()}
        addresses |= {"visual": self._visual, "logits": self._logits, **self._caches.addresses(batch.first_slot)}

        def upload() -> None:
            for staging in self._decoder_inputs.values():
                staging.upload(self._stream)

        def download() -> None:
            if wanted:
                self._cuda.download(self._host_logits[: wanted * text.vocab * 4], self._logits, self._stream)

        if batch.length <= STEP_TOKENS:
            self._steps.run(shapes, addresses, before=upload, after=download, variant=wanted)
            return
        upload()
        self._decoder.enqueue(self._decoder.profile_for(shapes), shapes, addresses)
        download()
