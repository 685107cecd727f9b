"""Training batches, rendered while training runs: which frame comes when, and the process that makes them."""

from __future__ import annotations

import multiprocessing
import queue
from collections import OrderedDict
from dataclasses import dataclass, replace
from multiprocessing.process import BaseProcess
from pathlib import Path

import cv2
import numpy as np

from exaone_ros.errors import DatasetError
from exaone_ros.sim.frame import LabelledFrame
from exaone_ros.training.flat_post import hazed, spoil
from exaone_ros.training.flat_renderer import FlatOptions, FlatRenderer
from exaone_ros.training.other_words import FreeQuestioner
from exaone_ros.training.own_frames import PictureReader, cut
from exaone_ros.training.own_pictures import OwnPictures, read_coco
from exaone_ros.training.own_questions import OwnQuestioner
from exaone_ros.training.packing import Batch, Encoder, make_batch
from exaone_ros.training.pool import FramePool
from exaone_ros.training.splits import HELD_OUT_PAIRS, few_kinds, frame_seed
from exaone_ros.training.truth import Truth, mirrored

MAIN, WIDE, SQUARE, NARROW, LONG = (252, 336), (196, 364), (280, 280), (252, 308), (224, 336)
DESK, UPRIGHT, TALL, STRIP = (224, 364), (336, 252), (364, 196), (168, 448)
SIZE_CYCLE = (
    MAIN, WIDE, MAIN, UPRIGHT, WIDE, SQUARE, MAIN, DESK, MAIN, TALL, WIDE, NARROW,
    MAIN, WIDE, MAIN, UPRIGHT, MAIN, SQUARE, MAIN, STRIP, WIDE, MAIN, DESK, LONG,
)  # fmt: skip
"""(height, width) of the images of one batch after the other: what the size rule makes of 4:3, 16:9, 1:1, 5:4, 3:2,
16:10, 3:4, 9:16, 8:3."""

HAZE_SHARE = 0.1
"""Of the frames of the pool: shown with little contrast."""


@dataclass(frozen=True)
class DataOptions:
    """How batches are made.

    Attributes:
        batch: frames of a batch.
        length: tokens of packed questions behind each frame.
        seed: of everything random.
        pool: folder of frames rendered beforehand, or None.
        pool_share, last_pool_share: part of the frames that come from the pool (of sizes that it has), before and
            after LAST_FROM of the run: it ends on what the simulator shows.
        reuse: how often a flat frame is shown (each time with other questions, mirrored or not).
        easy_frames: the first this many flat frames mostly show few objects.
        easy_until: share of the run over which frames of the pool with few objects are preferred.
        own: COCO JSON of pictures of one's own objects (see `own_pictures`), or None.
        own_images: folder of those pictures; None = that of the JSON.
        own_share: part of the frames that are such pictures.
        sizes: (height, width) of one batch after the other, over and over.
    """

    batch: int = 24
    length: int = 320
    seed: int = 0
    pool: Path | None = None
    pool_share: float = 0.6
    last_pool_share: float = 0.8
    reuse: int = 2
    easy_frames: int = 2500
    easy_until: float = 0.12
    own: Path | None = None
    own_images: Path | None = None
    own_share: float = 0.5
    sizes: tuple[tuple[int, int], ...] = SIZE_CYCLE


class BatchMaker:
    """Makes batch number n, the same whenever it is asked for."""

    BLOCK = 512
    LAST_FROM = 0.6

    def __init__(self, options: DataOptions) -> None:
        cv2.setNumThreads(1)
        self.options = options
        self.encoder = Encoder()
        self._pool = FramePool(options.pool) if options.pool is not None else None
        self._own = None if options.own is None else read_coco(options.own, options.own_images)
        self._reader = PictureReader()
        self._rendered: OrderedDict[tuple[int, tuple[int, int]], LabelledFrame] = OrderedDict()

    def make(self, number: int, progress: float = 1.0) -> Batch:
        """Make a batch.

        Args:
            number: which one, from 0.
            progress: of the training run, 0..1; early on, frames with few objects are preferred.
        """
        options = self.options
        rng = np.random.default_rng([options.seed, number])
        size = options.sizes[number % len(options.sizes)]
        turns, place = divmod(number, len(options.sizes))
        before = turns * options.sizes.count(size) + options.sizes[:place].count(size)
        share = options.pool_share if progress < self.LAST_FROM else options.last_pool_share
        frames, asked = [], []
        for i in range(options.batch):
            if self._own is not None and rng.random() < options.own_share:
                frames.append(_perhaps_mirrored(rng, self._own_picture(rng, self._own, size)))
                asked.append(OwnQuestioner(self._own.names, Truth.of(frames[-1]), rng).draw())
                continue
            pooled = self._pool.frames.get(size) if self._pool is not None else None
            if pooled and rng.random() < share:
                frame = self._pooled(rng, pooled, progress)
            else:
                frame = self._flat(before * options.batch + i, size)
            frames.append(_perhaps_mirrored(rng, frame))
            asked.append(FreeQuestioner(Truth.of(frames[-1]), rng).draw())
        return make_batch(self.encoder, frames, asked, options.length)

    def _own_picture(self, rng: np.random.Generator, own: OwnPictures, size: tuple[int, int]) -> LabelledFrame:
        picture = own.training[int(rng.integers(len(own.training)))]
        frame = cut(rng, self._reader.frame(picture), size)
        if rng.random() < 0.3:
            frame = replace(frame, image=spoil(rng, frame.image.astype(np.float32)))
        return frame

    def _pooled(self, rng: np.random.Generator, pooled: list[LabelledFrame], progress: float) -> LabelledFrame:
        frame = pooled[int(rng.integers(len(pooled)))]
        if progress < self.options.easy_until and rng.random() < 0.7:
            for _ in range(20):
                if 1 <= len(frame.objects) <= 3:
                    break
                frame = pooled[int(rng.integers(len(pooled)))]
        if rng.random() < HAZE_SHARE:
            frame = replace(frame, image=hazed(rng, frame.image.astype(np.float32)))
        elif rng.random() < 0.5:
            frame = replace(frame, image=spoil(rng, frame.image.astype(np.float32)))
        return frame

    def _flat(self, sample: int, size: tuple[int, int]) -> LabelledFrame:
        """The frame of one sample: each block of frames is gone through `reuse` times, in another order each time."""
        block, place = divmod(sample, self.BLOCK * self.options.reuse)
        turn, place = divmod(place, self.BLOCK)
        order = np.random.default_rng([self.options.seed, 5, block, turn]).permutation(self.BLOCK)
        index = block * self.BLOCK + int(order[place])
        key = (index, size)
        if key not in self._rendered:
            self._rendered[key] = self._render(index, size)
            while len(self._rendered) > 2 * self.BLOCK * len(set(self.options.sizes)):
                self._rendered.popitem(last=False)
        return self._rendered[key]

    def _render(self, index: int, size: tuple[int, int]) -> LabelledFrame:
        rng = np.random.default_rng([self.options.seed, 6, index])
        few = rng.random() < (0.7 if index < self.options.easy_frames else 0.15)
        options = FlatOptions(
            objects=(1, 3) if few else (0, 10), exclude_pairs=HELD_OUT_PAIRS, include_pairs=few_kinds(rng)
        )
        height, width = size
        return FlatRenderer(width, height).render(frame_seed("train", index), options)


def _perhaps_mirrored(rng: np.random.Generator, frame: LabelledFrame) -> LabelledFrame:
    return mirrored(frame) if rng.random() < 0.5 else frame


def _serve(options: DataOptions, requests: multiprocessing.Queue, answers: multiprocessing.Queue) -> None:  # type: ignore[type-arg]
    answers.cancel_join_thread()  # what waits to be sent to a trainer that was killed must not keep this process alive
    maker = BatchMaker(options)
    parent = multiprocessing.parent_process()
    while parent is not None and parent.is_alive():  # a trainer that was killed must not leave its workers behind
        try:
            request = requests.get(timeout=2)
        except queue.Empty:
            continue
        if request is None:
            return
        number, progress = request
        answers.put((number, maker.make(number, progress)))


class BatchStream:
    """Batches in order, made ahead by worker processes.

    Args:
        options: how batches are made.
        start: number of the first batch.
        workers: processes; 0 = made in this one when asked for.
        ahead: batches that may be waiting.
    """

    def __init__(self, options: DataOptions, start: int = 0, workers: int = 1, ahead: int = 6) -> None:
        self._next = self._asked = start
        self._ahead = max(ahead, 2 * workers)
        self._maker = BatchMaker(options) if workers == 0 else None
        self._ready: dict[int, Batch] = {}
        self._workers: list[BaseProcess] = []
        if workers:
            context = multiprocessing.get_context("spawn")
            self._requests, self._answers = context.Queue(), context.Queue()
            for _ in range(workers):
                arguments = (options, self._requests, self._answers)
                self._workers.append(context.Process(target=_serve, args=arguments, daemon=True))
                self._workers[-1].start()

    def next(self, progress: float) -> Batch:
        """The next batch; `progress` 0..1 of the run shapes the batches that are made from now on.

        Raises:
            DatasetError: a worker process ended.
        """
        number = self._next
        self._next += 1
        if self._maker is not None:
            return self._maker.make(number, progress)
        while self._asked < number + self._ahead:
            self._requests.put((self._asked, progress))
            self._asked += 1
        while number not in self._ready:
            try:
                which, batch = self._answers.get(timeout=5)
            except queue.Empty:
                if not all(worker.is_alive() for worker in self._workers):
                    raise DatasetError(
                        "a process that makes batches has ended; expected it to live as long as training does: where "
                        "nothing stands above, it may have been killed for want of memory (fewer --workers, or a "
                        "smaller pool); the run goes on from its last checkpoint"
                    ) from None
                continue
            self._ready[which] = batch
        return self._ready.pop(number)

    def close(self) -> None:
        for _ in self._workers:
            self._requests.put(None)
        for worker in self._workers:
            worker.terminate()
            worker.join()
        if self._workers:
            for ended in (self._requests, self._answers):
                ended.close()
                ended.cancel_join_thread()  # nobody reads any more: its thread must not wait to get rid of the rest
