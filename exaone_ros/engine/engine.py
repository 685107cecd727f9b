"""Tasks on frames: one look, many answers. The engine's door to the other rooms.

A frame is encoded once and its prompt head prefilled once; all tasks on it are decoded as one batch.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Ordered
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exaone_ros.engine.answers import FrameAnswers, TaskAnswer
from exaone_ros.engine.backend import Backend, Row, VisualTokens, named_failures
from exaone_ros.engine.decode import decode
from exaone_ros.engine.frame import Frame, Image, Prompts
from exaone_ros.engine.grammar import Grammars
from exaone_ros.engine.sampling import GREEDY, Sampling
from exaone_ros.engine.sequence import Outcome, Prefix, Question, Sequence
from exaone_ros.engine.slots import SlotPool
from exaone_ros.engine.timings import Meter
from exaone_ros.engine.token_table import TokenTable
from exaone_ros.errors import EngineError, ExaoneError, PromptTooLong
from exaone_ros.tasks import SYSTEM, Task

QUESTIONS_KEPT = 256


class Engine:
    """Answers tasks on images.

    One thread at a time may use it; `close` may be called from any thread and ends an answer in progress.

    Args:
        backend: runs the model; belongs to the engine from now on.
        prompts: the checkpoint's chat template.
        table: the checkpoint's tokens.
        image_token: id that stands for a visual token in a prompt.
        system: text of the system turn.
    """

    def __init__(
        self, backend: Backend, prompts: Prompts, table: TokenTable, image_token: int, system: str = SYSTEM
    ) -> None:
        self._backend = backend
        self._prompts = prompts
        self._table = table
        self._grammars = Grammars(table)
        self._image_token = image_token
        self._system = system
        # Standing tasks ask the same on every frame: tokenizing their questions took as long as a decode step.
        self._suffix = lru_cache(maxsize=QUESTIONS_KEPT)(partial(prompts.suffix, system=system))
        self._slots = SlotPool(backend.limits.slots)
        self._frames: set[Frame] = set()
        self._slots_with_head: set[int] = set()
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

        Raises:
            CheckpointError: the directory does not hold an EXAONE 4.5 checkpoint that can be read.
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
        opened = open_backend(backend, directory, slots=slots, context=context, threads=threads, device=device)
        return cls(opened, prompts, table, config.image_token)

    @property
    def backend(self) -> Backend:
        """What runs the model; for reading its name and limits."""
        return self._backend

    def look(self, image: Image) -> Frame:
        """Encode an image and prefill the prompt head that all questions on it share.

        Args:
            image: uint8 RGB [H, W, 3].

        Returns:
            A frame that holds a KV slot until it is released.

        Raises:
            ImageError: the image cannot be used.
            PromptTooLong: system prompt and image do not fit into the context.
            EngineError: no slot is free, the engine is closed or in use, or the backend failed.
        """
        with self._exclusive("look"):
            return self._look(image, Meter())

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
            with self._look(frame, meter) as looked:
                return self._answer(looked, tasks, sampling, cancelled, meter)

    def close(self) -> None:
        """Free the model. An answer in progress in another thread ends with EngineError first. May be called twice."""
        self._closing = True
        if self._owner is threading.current_thread():
            return  # from inside `cancelled`: the answer in progress closes on its way out
        with self._turn:
            self._backend.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()

    @contextmanager
    def _exclusive(self, what: str) -> Iterator[None]:
        if not self._turn.acquire(blocking=False):
            owner = self._owner.name if self._owner else "another thread"
            raise EngineError(
                f"thread '{threading.current_thread().name}' called {what} while thread '{owner}' is using the engine; "
                "one thread at a time may: give the work to that thread, or open a second engine"
            )
        try:
            if self._closing:
                raise EngineError(f"{what} was called on an engine that is closed")
            self._owner = threading.current_thread()
            yield
            if self._closing:
                raise EngineError(f"the engine was closed during {what}")
        finally:
            self._owner = None
            self._turn.release()
            if self._closing:
                self.close()

    def _look(self, image: Image, meter: Meter) -> Frame:
        with named_failures(self._backend, "encode"), meter.measure("encode_s"):
            visual = self._backend.encode(image)
        meter.add("preprocess_s", visual.preprocess_s)
        meter.add("encode_s", -visual.preprocess_s)
        tokens = self._prompts.prefix([visual.count], self._system)
        context = self._backend.limits.context
        if tokens.size > context:
            raise PromptTooLong(
                f"system prompt and image take {tokens.size} tokens ({visual.count} of them visual); the context is "
                f"{context}: open the engine with a larger one"
            )
        slot = self._slots.acquire("a frame")
        try:
            with named_failures(self._backend, "run"), meter.measure("prefix_s"):
                self._prefill_head(slot, tokens, visual)
        except BaseException:
            self._slots.release(slot)
            raise
        height_px, width_px = image.shape[:2]
        frame = Frame(width_px, height_px, visual, Prefix(slot, tokens.size), meter.read(), self._release_frame)
        self._frames.add(frame)
        return frame

    def _prefill_head(self, slot: int, tokens: NDArray[np.int64], visual: VisualTokens) -> None:
        """Run the prompt head; what stands before the image is the same on every frame and may still lie there."""
        head = int(np.argmax(tokens == self._image_token))
        start = head if slot in self._slots_with_head else 0
        self._slots_with_head.discard(slot)
        self._backend.run([Row(slot, start, tokens[start:], (visual,), logits=0)])
        self._slots_with_head.add(slot)

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
        answers: dict[int, TaskAnswer] = {}
        sequences: dict[Sequence, int] = {}
        for index, task in enumerate(tasks):
            try:
                sequences[self._sequence(task, frame.prefix, sampling)] = index
            except ExaoneError as error:
                answers[index] = TaskAnswer(task, Outcome.FAILED, error=error, latency_s=meter.elapsed_s)

        def finished(sequence: Sequence) -> None:
            index = sequences[sequence]
            answers[index] = _read(tasks[index], sequence, frame, meter.elapsed_s)
            meter.add("tokens_sampled", sequence.tokens_sampled)
            meter.add("tokens_forced", sequence.tokens_forced)

        if sequences:
            stop = lambda: self._closing or cancelled()  # noqa: E731
            decode(self._backend, sequences, self._slots.free, meter, stop=stop, finished=finished)
        return FrameAnswers(tuple(answers[index] for index in range(len(tasks))), meter.read())

    def _sequence(self, task: Task, prefix: Prefix, sampling: Sampling) -> Sequence:
        tokens = self._suffix(task.prompt(), thinking=task.thinking)
        question = Question(
            task.name,
            tokens,
            task.schema(),
            task.max_tokens,
            task.thinking_budget if task.thinking else 0,
            sampling,
        )
        return Sequence(question, prefix, self._table, self._grammars, self._backend.limits.context)

    def _release_frame(self, frame: Frame) -> None:
        if frame in self._frames:
            self._frames.remove(frame)
            self._slots.release(frame.prefix.slot)


def _read(task: Task, sequence: Sequence, frame: Frame, latency_s: float) -> TaskAnswer:
    """Turn a finished sequence into the task's answer."""
    decoded = sequence.decoded()
    outcome, result, error = sequence.outcome, None, sequence.error
    assert outcome is not None
    if outcome in (Outcome.DONE, Outcome.BUDGET):
        try:
            result = task.read(decoded, frame.width_px, frame.height_px)
        except ExaoneError as problem:
            outcome, error = Outcome.FAILED, problem
    tokens = sequence.tokens_sampled + sequence.tokens_forced
    return TaskAnswer(task, outcome, result, error, decoded.text, decoded.reasoning, tokens, latency_s)
