"""Tasks on frames: one look, many answers. The engine's door to the other rooms.

A frame is encoded once and its prompt head prefilled once; all tasks on it are decoded as one batch.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Ordered
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from exaone_ros.engine.answers import FrameAnswers, TaskAnswer
from exaone_ros.engine.backend import Backend
from exaone_ros.engine.frame import Frame, Prompts
from exaone_ros.engine.job import Job
from exaone_ros.engine.prefixes import PromptHead
from exaone_ros.engine.request import MAX_PICTURES, Image, Picture, Request
from exaone_ros.engine.sampling import GREEDY, Sampling
from exaone_ros.engine.scheduler import Scheduler
from exaone_ros.engine.scheduling import Scheduling
from exaone_ros.engine.sequence import Outcome
from exaone_ros.engine.speculation import CHEAP, Speculation
from exaone_ros.engine.timings import Meter
from exaone_ros.engine.token_table import TokenTable
from exaone_ros.errors import EngineError, ImageError
from exaone_ros.tasks import SYSTEM, Task


class Engine:
    """Answers tasks on images, in the caller's thread.

    One thread at a time may use it; `close` may be called from any thread and ends an answer in progress. For
    questions from several threads, of several priorities or with deadlines see `service.EngineService`.

    Args:
        backend: runs the model; belongs to the engine from now on.
        prompts: the checkpoint's chat template.
        table: the checkpoint's tokens.
        image_token: id that stands for a visual token in a prompt.
        system: text of the system turn.
        scheduling: how calls and slots are shared out.
        speculation: what is guessed ahead; None = nothing.

    Raises:
        EngineError: the backend lacks what `speculation` asks for.
    """

    def __init__(
        self,
        backend: Backend,
        prompts: Prompts,
        table: TokenTable,
        image_token: int,
        system: str = SYSTEM,
        scheduling: Scheduling | None = None,
        speculation: Speculation | None = None,
    ) -> None:
        self._backend = backend
        self._scheduler = Scheduler(backend, prompts, table, image_token, system, scheduling, speculation)
        self._frames: dict[Frame, PromptHead] = {}
        self._turn = threading.Lock()
        self._owner: threading.Thread | None = None
        self._closing = False

    @classmethod
    def open(
        cls,
        model_dir: str | Path,
        backend: str = "onnxruntime",
        *,
        slots: int = 8,
        context: int = 1024,
        threads: int = 0,
        device: str = "cpu",
        visual_tokens: int = 0,
        scheduling: Scheduling | None = None,
        speculation: Speculation | None = CHEAP,
    ) -> Engine:
        """Load a checkpoint directory.

        Args:
            model_dir: a Hugging Face directory: config.json, safetensors, tokenizer.json, chat template.
            backend: name of the backend, see `engine.backends`.
            slots: KV slots: one for each open frame and one for each question decoded at the same time; more
                questions take turns.
            context: tokens of system prompt, image, question and answer together.
            threads: of the backend; 0 = one for each core.
            device: where it runs, e.g. ``"cpu"`` or ``"cuda"``.
            visual_tokens: most that an image may take; larger images are shrunk to it. 0 = what the checkpoint, or the
                engines compiled of it, allow.
            scheduling: how calls and slots are shared out.
            speculation: what is guessed ahead; None = nothing. Answers are the same with every setting.

        Raises:
            CheckpointError: the directory holds no EXAONE 4.5 checkpoint that can be read, or no MTP layer where
                `speculation` asks for one.
            MissingExtra: the backend's packages are not installed.
            EngineError: the backend is unknown or cannot be started.
        """
        from exaone_ros.engine.backends import open_backend
        from exaone_ros.model.chat import PromptEncoder
        from exaone_ros.model.config import ModelConfig

        directory = Path(model_dir)
        config = ModelConfig.read(directory)
        prompts = PromptEncoder.open(directory, config)
        table = TokenTable.open(directory, config.text.vocab, config.eos_tokens)
        mtp = speculation is not None and speculation.mtp > 0
        opened = open_backend(
            backend, directory, slots=slots, context=context, threads=threads, device=device, mtp=mtp,
            visual_tokens=visual_tokens,
        )  # fmt: skip
        return cls(opened, prompts, table, config.image_token, scheduling=scheduling, speculation=speculation)

    @property
    def backend(self) -> Backend:
        """What runs the model; for reading its name and limits."""
        return self._backend

    @property
    def kept_bytes(self) -> int:
        """Memory of the prompt heads and encoded pictures that are kept for later questions. Any thread may ask."""
        return self._scheduler.heads.kept_bytes

    def look(self, *images: Image) -> Frame:
        """Encode an image and prefill the prompt head that all questions on it share.

        Args:
            images: uint8 RGB [H, W, 3]; several where the questions are about several: cameras, or a video as frames
                over time, oldest first. Boxes are in pixels of the last one.

        Returns:
            A frame that holds a KV slot until it is released.

        Raises:
            ImageError: the image cannot be used.
            PromptTooLong: system prompt and image do not fit into the context.
            EngineError: no slot is free, the engine is closed or in use, or the backend failed.
        """
        with self._exclusive("look"):
            return self._look(images, Meter())

    def answer(
        self,
        frame: Frame | Image,
        tasks: Ordered[Task],
        *,
        sampling: Sampling = GREEDY,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> FrameAnswers:
        """Answer tasks on a frame; one task's failure does not lose the answers of the others.

        Args:
            frame: one that was looked at, or an image, uint8 RGB [H, W, 3], which is looked at and released here.
            tasks: what is asked, any number.
            sampling: how tokens are chosen.
            cancelled: asked before every step, in the calling thread; once true, unfinished tasks end as CANCELLED.

        Raises:
            ImageError, PromptTooLong: as `look`, for an image.
            EngineError: the frame is released, no slot is free, or the engine is closed, in use, or closed meanwhile.
        """
        with self._exclusive("answer"):
            meter = Meter()
            if isinstance(frame, Frame):
                return self._answer(frame, tasks, sampling, cancelled, meter)
            with self._look((frame,), meter) as looked:
                return self._answer(looked, tasks, sampling, cancelled, meter)

    def close(self) -> None:
        """Free the model. An answer in progress in another thread ends with EngineError first. May be called twice."""
        self._closing = True
        if self._owner is threading.current_thread():
            return  # from inside `cancelled`: the answer in progress closes on its way out
        with self._turn:
            self._scheduler.close()
            self._backend.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()

    @contextmanager
    def drive(self) -> Iterator[Scheduler]:
        """The scheduler behind this engine, for the calling thread alone until the `with` block ends.

        For `service.EngineService`. `close` waits for the end of the block: look at `closing` between two steps.

        Raises:
            EngineError: the engine is closed or in use.
        """
        with self._exclusive("drive", tell_closing=False):
            yield self._scheduler

    @property
    def closing(self) -> bool:
        """`close` was called."""
        return self._closing

    @contextmanager
    def _exclusive(self, what: str, *, tell_closing: bool = True) -> Iterator[None]:
        if not self._turn.acquire(blocking=False):
            owner = self._owner.name if self._owner else "another thread"
            raise EngineError(
                f"thread '{threading.current_thread().name}' called {what} while thread '{owner}' is using the engine; "
                "one thread at a time may: use an EngineService, which any thread may ask, or open a second engine"
            )
        try:
            if self._closing:
                raise EngineError(f"{what} was called on an engine that is closed")
            self._owner = threading.current_thread()
            yield
            if self._closing and tell_closing:
                raise EngineError(f"the engine was closed during {what}")
        finally:
            self._owner = None
            self._turn.release()
            if self._closing:
                self.close()

    def _look(self, images: Ordered[Image], meter: Meter) -> Frame:
        if not 1 <= len(images) <= MAX_PICTURES:
            raise ImageError(f"look was called with {len(images)} images; expected 1 to {MAX_PICTURES}")
        heads, pictures = self._scheduler.heads, tuple(Picture(image) for image in images)
        head = heads.use(pictures)
        try:
            self._scheduler.look(head, meter)
        except BaseException:
            heads.release(head)
            raise
        height_px, width_px = images[-1].shape[:2]
        frame = Frame(pictures, width_px, height_px, tuple(head.visual), head.prefix, meter.read(), self._release_frame)
        self._frames[frame] = head
        return frame

    def _answer(
        self,
        frame: Frame,
        tasks: Ordered[Task],
        sampling: Sampling,
        cancelled: Callable[[], bool],
        meter: Meter,
    ) -> FrameAnswers:
        if frame not in self._frames:
            raise EngineError("the frame was released, or belongs to another engine; look at the image again")
        scheduler = self._scheduler
        answers: dict[int, TaskAnswer] = {}
        if tasks:
            scheduler.require_room()
        for index, task in enumerate(tasks):
            request = Request(task, frame.pictures, sampling=sampling)
            scheduler.add(Job(request, partial(answers.__setitem__, index), scheduler.clock()))
        try:
            while scheduler.live:
                if self._closing or cancelled():
                    scheduler.abort(Outcome.CANCELLED, None, meter)
                scheduler.step(meter)
        finally:
            scheduler.abort(Outcome.CANCELLED, None, meter)
        return FrameAnswers(tuple(answers[index] for index in range(len(tasks))), meter.read())

    def _release_frame(self, frame: Frame) -> None:
        head = self._frames.pop(frame, None)
        if head is not None:
            self._scheduler.heads.release(head, keep=False)
