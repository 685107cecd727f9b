"""A request on its way through the engine: when it must end, who listens, and what became of it."""

from __future__ import annotations

import math
from collections.abc import Callable

from exaone_ros.engine.answers import TaskAnswer
from exaone_ros.engine.prefixes import PromptHead
from exaone_ros.engine.request import Request
from exaone_ros.engine.sequence import Outcome, Sequence
from exaone_ros.engine.stream import TextStream
from exaone_ros.errors import EngineError, ExaoneError


class Job:
    """Belongs to the scheduler's thread, but for `cancelled` and `refusal`, which any thread may set.

    Args:
        request: what is asked.
        finished: called once with the answer, on the scheduler's thread.
        now_s: the time, on the scheduler's clock.
    """

    def __init__(self, request: Request, finished: Callable[[TaskAnswer], None], now_s: float) -> None:
        self.request = request
        self.cancelled = False
        self.refusal: ExaoneError | None = None
        self.head: PromptHead | None = None
        """Held from when it is the job's turn until the question has its own copy."""
        self.sequence: Sequence | None = None
        self.slot: int | None = None
        self.arrival = 0
        self.owed = 0
        """Calls that others had while this job waited, less what its own were worth: see the scheduler's rules."""
        self.steps = 0
        """Steps in which choices were made for this job."""
        self.answer_steps = 0
        """Steps that the answer took, after the reasoning, or would have taken without drafts."""
        self._chosen = 0
        self._first_s = math.nan
        self._finished = finished
        self.began_s = now_s
        self._reasoning = TextStream(request.on_reasoning, stripped=True) if request.on_reasoning else None
        self._text = TextStream(request.on_text) if request.on_text else None

    @property
    def rank(self) -> tuple[int, float, int]:
        """Least goes first: higher priority, then the earlier deadline, then the earlier arrival."""
        deadline_s = self.request.deadline_s
        return -self.request.priority, math.inf if deadline_s is None else deadline_s, self.arrival

    def check(self, now_s: float, step_s: float, answer_steps: float) -> None:
        """Before a step: end or conclude the sequence where its time is over.

        Args:
            now_s: the time.
            step_s: how long a step takes.
            answer_steps: how many the answer is likely to take; without a deadline nobody asks.
        """
        sequence, request = self.sequence, self.request
        if sequence is None or sequence.finished:
            return
        if self.cancelled:
            sequence.cancel()
            return
        if self.steps > 1:  # of its own steps: a job that has to pause in between is slower than the decoder
            step_s = max(step_s, (now_s - self._first_s) / (self.steps - 1))
        if request.deadline_s is not None:
            left_s = request.deadline_s - now_s
            if left_s <= 0 or (sequence.cuttable and left_s <= step_s):
                sequence.expire(cut=left_s > 0)
                return
            if left_s <= (answer_steps + 1) * step_s:
                sequence.conclude()
        if request.reasoning_s is not None and self.steps and now_s - self._first_s >= request.reasoning_s:
            sequence.conclude()

    def stepped(self, now_s: float) -> None:
        """After a step: tell the listeners, count."""
        sequence = self.sequence
        assert sequence is not None
        if not sequence.reading:
            self._first_s = now_s if not self.steps else self._first_s
            self.steps += 1
            # Of a step that verified a draft each choice counts: the next answer may have to do without such luck.
            self.answer_steps += sequence.tokens_sampled - self._chosen if sequence.answering else 0
            self._chosen = sequence.tokens_sampled
        self._tell(sequence)

    def end(self, now_s: float) -> TaskAnswer:
        """The sequence is finished: read its answer and tell whoever waits for it."""
        sequence, request = self.sequence, self.request
        assert sequence is not None and sequence.outcome is not None
        self._tell(sequence, final=True)
        outcome, result, error = sequence.outcome, None, sequence.error
        decoded = sequence.decoded()
        if outcome in (Outcome.DONE, Outcome.BUDGET) and request.deadline_s is not None and now_s > request.deadline_s:
            outcome = Outcome.DEADLINE
        elif outcome in (Outcome.DONE, Outcome.BUDGET):
            try:
                height_px, width_px = request.pictures[-1].image.shape[:2]
                result = request.task.read(decoded, width_px, height_px)
            except ExaoneError as problem:
                outcome, error = Outcome.FAILED, problem
            except Exception as problem:  # a task may be anybody's code
                reason = f"{type(problem).__name__}: {problem}"
                outcome = Outcome.FAILED
                error = EngineError(f"task '{request.task.name}' could not read its answer: {reason}")
        tokens = sequence.tokens_sampled + sequence.tokens_forced
        latency_s = now_s - self.began_s
        answer = TaskAnswer(request.task, outcome, result, error, decoded.text, decoded.reasoning, tokens, latency_s)
        self._finished(answer)
        return answer

    def end_without(self, outcome: Outcome, error: ExaoneError | None, now_s: float) -> None:
        """End before there is a sequence."""
        self._finished(TaskAnswer(self.request.task, outcome, error=error, latency_s=now_s - self.began_s))

    def _tell(self, sequence: Sequence, *, final: bool = False) -> None:
        if self._reasoning is not None:
            over = final or sequence.answering
            self._reasoning.update(sequence.reasoning_bytes, final=over)
            if over:
                self._reasoning = None
        if self._text is not None:
            self._text.update(sequence.answer_bytes, final=final)
