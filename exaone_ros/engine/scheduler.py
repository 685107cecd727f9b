"""Who gets the next call of the backend: the one loop behind every way to ask. Knows no threads.

The rules, for which `Scheduler.step` is one turn:

- **Priority is strict.** Only jobs of the highest priority present take part in a turn, all others pause on their
  slots. A job that arrives is therefore kept waiting by lower ones for at most the call that is just under way.
- **Equal priority shares.** Jobs of one priority join and leave one running batch at any step; a new picture is
  encoded and its head prefilled between their steps, one call at a time and long prompts in parts.
- **Nobody starves.** A paused job gets one call for every `Scheduling.starving_calls` calls of others. What it got
  beyond that while nobody more important was there is credit, up to `CREDIT_CALLS` calls: a job that decodes in the
  gaps between frames does not step into a frame's answers.
- **Slots go by priority.** Where none is free, a kept prompt head goes first, then the least important job of lower
  priority: it gives up its slot, keeps what it has decoded, and goes on when there is room.
- **Deadlines** order jobs of equal priority and end them: see `job.Job.check`.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable
from functools import lru_cache, partial

from exaone_ros.engine.backend import Backend
from exaone_ros.engine.decode import Batch
from exaone_ros.engine.frame import Prompts
from exaone_ros.engine.grammar import Grammars
from exaone_ros.engine.job import Job
from exaone_ros.engine.pace import Pace
from exaone_ros.engine.prefixes import PromptHead, PromptHeads
from exaone_ros.engine.scheduling import Scheduling
from exaone_ros.engine.sequence import Outcome, Prefix, Question, Sequence
from exaone_ros.engine.slots import SlotPool
from exaone_ros.engine.speculation import Speculation, Speculator
from exaone_ros.engine.timings import Meter
from exaone_ros.engine.token_table import TokenTable
from exaone_ros.errors import EngineBusy, EngineError, ExaoneError
from exaone_ros.tasks import SYSTEM

QUESTIONS_KEPT = 256

CREDIT_CALLS = 4
"""Calls that a job may have had in advance: with more, it would wait too long when the gaps close."""


class Scheduler:
    """Drives a backend. Not thread-safe: one thread at a time calls its methods.

    Args:
        backend: runs the model.
        prompts: the checkpoint's chat template.
        table: the checkpoint's tokens.
        image_token: id that stands for a visual token in a prompt.
        system: text of the system turn.
        settings: see there.
        speculation: what is guessed ahead.
        clock: seconds that deadlines are given in.

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
        settings: Scheduling | None = None,
        speculation: Speculation | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        settings = settings or Scheduling()
        self.clock = clock
        self._backend, self._table, self._settings = backend, table, settings
        self._grammars = Grammars(table)
        # Standing tasks ask the same on every frame: tokenizing their questions took as long as a decode step.
        self._suffix = lru_cache(maxsize=QUESTIONS_KEPT)(partial(prompts.suffix, system=system))
        slots = backend.limits.slots
        self._slots = SlotPool(slots)
        kept = slots // 2 if settings.kept_heads is None else settings.kept_heads
        self.heads = PromptHeads(
            backend, self._slots, prompts, image_token, system, kept=kept, pictures_kept=settings.kept_pictures,
            bytes_kept=None if settings.kept_mb is None else settings.kept_mb * 1_000_000,
        )  # fmt: skip
        speculator = Speculator(backend, speculation) if speculation is not None and speculation.on else None
        self._batch = Batch(backend, settings.prefill_tokens, speculator)
        self._pace = Pace()
        self._arrivals = itertools.count()
        self._waiting: list[Job] = []
        self._running: dict[int, Job] = {}

    @property
    def live(self) -> bool:
        """There are jobs that have not ended."""
        return bool(self._waiting or self._running)

    def require_room(self) -> None:
        """Refuse to start where no question could ever get a slot.

        Raises:
            EngineError: all slots are held by open frames.
        """
        if self.heads.held_slots >= self._slots.size:
            raise EngineError("no free KV slot to decode on: release frames or open the engine with more slots")

    def look(self, head: PromptHead, meter: Meter) -> None:
        """Make a head ready at once, apart from the jobs; one that fails is dropped.

        Raises:
            ImageError, PromptTooLong, EngineError: see `PromptHeads`.
        """
        try:
            while not head.encoded:
                self.heads.encode(head, meter)
            if head.slot is None:
                while not self._slots.free and self.heads.evict():
                    pass
                self.heads.begin(head, self._slots.acquire("a frame", highest=True), meter)
            while not head.ready:
                self.heads.prefill(head, self._settings.prefill_tokens, meter)
        except BaseException:
            self.heads.drop(head)
            raise

    def add(self, job: Job) -> None:
        """Take in a job; it ends in one of the next steps."""
        job.arrival = next(self._arrivals)
        self._waiting.append(job)

    def step(self, meter: Meter, arrived: Callable[[], int | None] = lambda: None) -> None:
        """One turn: end what is over, encode or prefill at most one part of a head, run the decoder at most once.

        Args:
            meter: told what was done.
            arrived: highest priority of the requests that are not added yet, None without any. Asked between the two
                calls of the backend: one that is more important than all here does not wait for the second.
        """
        self._end_what_is_over(meter)
        jobs = self._jobs()
        if not jobs:
            return
        top = max(job.request.priority for job in jobs)
        patience = self._settings.starving_calls
        chosen = {job for job in jobs if job.request.priority == top or job.owed >= patience}
        worked = self._prepare(chosen, meter)
        urgent = arrived() if worked else None
        if urgent is None or urgent <= top:
            self._join(chosen, meter)
            worked |= self._decode(chosen, meter)
        for job in self._jobs():
            if job in worked:
                job.owed = max(job.owed - patience, -CREDIT_CALLS * patience)
            else:  # one call at most: who waited long for a slot does not get all that it missed in one go
                job.owed = min(job.owed + 1, patience)
        if not worked and len(self._jobs()) == len(jobs):
            self._refuse(min(chosen, key=lambda job: job.rank), meter)

    def close(self) -> None:
        """End what runs beside the backend; the scheduler could go on all the same."""
        self._batch.close()

    def abort(self, outcome: Outcome, error: ExaoneError | None, meter: Meter) -> None:
        """End all jobs in this way."""
        for job in self._jobs():
            self._end(job, meter, outcome, error)

    def _jobs(self) -> list[Job]:
        return [*self._running.values(), *self._waiting]

    def _end_what_is_over(self, meter: Meter) -> None:
        now_s = self.clock()
        for job in self._jobs():
            deadline_s = job.request.deadline_s
            if job.refusal is not None:
                self._end(job, meter, Outcome.FAILED, job.refusal)
            elif job.cancelled:
                self._end(job, meter, Outcome.CANCELLED)
            elif job.sequence is not None:
                steps = 0.0 if deadline_s is None else self._pace.answer_steps(job.request.task)
                job.check(now_s, self._pace.step_s, steps)
                if job.sequence.finished:
                    self._end(job, meter)
            elif deadline_s is not None and now_s >= deadline_s:
                self._end(job, meter, Outcome.DEADLINE)

    def _prepare(self, chosen: set[Job], meter: Meter) -> set[Job]:
        """Bring at most one head on by one call of the backend; returns the jobs that it is for."""
        if not self._waiting:  # most turns
            return set()
        patience = self._settings.starving_calls
        waiting = [job for job in self._waiting if job in chosen]
        for job in waiting:
            job.head = job.head or self.heads.use(job.request.pictures)
        for job in sorted(waiting, key=lambda job: (job.owed < patience, job.rank)):
            head = job.head
            if head is None or head.ready:
                continue
            slot = self._slot_for_head(job) if head.encoded and head.slot is None else None
            if head.encoded and head.slot is None and slot is None:
                continue
            sharing = {other for other in self._waiting if other.head is head}
            try:
                if not head.encoded:
                    self.heads.encode(head, meter)
                else:
                    if slot is not None:
                        self.heads.begin(head, slot, meter)
                    self.heads.prefill(head, self._settings.prefill_tokens, meter)
            except ExaoneError as error:
                self.heads.drop(head)
                for other in sharing:
                    self._end(other, meter, Outcome.FAILED, error)
            return sharing
        return set()

    def _join(self, chosen: set[Job], meter: Meter) -> None:
        """Give slots to jobs whose head is ready, the most important first."""
        if not self._waiting:
            return
        joining: dict[int, Sequence] = {}
        for job, slot in self._places(chosen, meter).items():
            assert job.sequence is not None
            job.slot = slot
            joining[slot] = job.sequence
            self._waiting.remove(job)
            self._running[slot] = job
        self._batch.join(joining, meter)
        for slot in joining:
            self._let_go(self._running[slot])

    def _places(self, chosen: set[Job], meter: Meter) -> dict[Job, int]:
        """A slot for each job that can join now, the most important first: prompts are read in the order of joining.

        Whatever a task's own code raises on the way, Ctrl-C included, no slot stays taken that nobody is recorded to
        hold.
        """
        joined: list[Job] = []
        slots: list[int] = []
        try:
            for job in sorted((job for job in self._waiting if job in chosen), key=lambda job: job.rank):
                if job.head is None or not job.head.ready:
                    continue
                if not self._start(job, meter):
                    continue
                slot = self._claim(job)
                if slot is None:
                    break
                slots.append(slot)
                joined.append(job)
            # Long answers beside each other: what is left when the short ones are over then still runs as one batch.
            longest = sorted(joined, key=lambda job: self._pace.answer_steps(job.request.task), reverse=True)
        except BaseException:
            for slot in slots:
                self._slots.release(slot)
            raise
        place = dict(zip(longest, sorted(slots), strict=True))
        return {job: place[job] for job in joined}

    def _start(self, job: Job, meter: Meter) -> bool:
        """Make the job's sequence, or let it start over behind its head; False: it has ended instead."""
        assert job.head is not None
        if job.sequence is not None:
            job.sequence.restart(job.head.prefix)
            return True
        try:
            job.sequence = self._sequence(job, job.head.prefix)
        except ExaoneError as error:
            self._end(job, meter, Outcome.FAILED, error)
            return False
        except Exception as error:  # a task may be anybody's code
            reason = f"task '{job.request.task.name}' could not be asked: {type(error).__name__}: {error}"
            self._end(job, meter, Outcome.FAILED, EngineError(reason))
            return False
        if job.sequence.finished:  # its grammar left nothing to choose
            self._end(job, meter)
            return False
        return True

    def _sequence(self, job: Job, prefix: Prefix) -> Sequence:
        task = job.request.task
        tokens = self._suffix(task.prompt(), images=len(job.request.pictures), thinking=task.thinking)
        budget = task.thinking_budget if task.thinking else 0
        question = Question(task.name, tokens, task.schema(), task.max_tokens, budget, job.request.sampling)
        return Sequence(question, prefix, self._table, self._grammars, self._backend.limits.context)

    def _decode(self, chosen: set[Job], meter: Meter) -> set[Job]:
        """One step of the chosen jobs that have a slot; returns those that took part."""
        slots = [slot for slot, job in self._running.items() if job in chosen]
        began_s = self.clock()
        step = self._batch.step(slots, meter)
        if step.slots and not step.prefilling:
            self._pace.stepped(self.clock() - began_s)
        served = {self._running[slot] for slot in step.slots}
        for job in served:
            job.stepped(self.clock())
        for job in [self._running[slot] for slot in slots]:
            if job.sequence is not None and job.sequence.finished:
                self._end(job, meter)
        return served

    def _slot_for_head(self, job: Job) -> int | None:
        """A slot for the job's head, if one is left then for the question itself."""
        for other in self._below(self._waiting, job):
            if self.heads.held_slots + 2 <= self._slots.size:
                break
            self._let_go(other)
        if self.heads.held_slots + 2 > self._slots.size:
            return None
        return self._claim(job, highest=True)

    def _claim(self, job: Job, *, highest: bool = False) -> int | None:
        """A slot for a job: a free one, that of a kept head, or of a job of lower priority; None: there is none."""
        waiting, running = self._below(self._waiting, job), self._below(self._running.values(), job)
        while not self._slots.free and not self.heads.evict():
            if waiting:
                self._let_go(waiting.pop(0))
            elif running:
                self._preempt(running.pop(0))
            else:
                return None
        return self._slots.acquire("a question", highest=highest)

    def _below(self, jobs: Iterable[Job], job: Job) -> list[Job]:
        """Jobs of lower priority, the least important first."""
        lower = [other for other in jobs if other.request.priority < job.request.priority]
        return sorted(lower, key=lambda other: other.rank, reverse=True)

    def _preempt(self, job: Job) -> None:
        """Take its slot; it waits for another one with what it has decoded."""
        self._vacate(job)
        self._waiting.append(job)

    def _vacate(self, job: Job) -> None:
        assert job.slot is not None
        slot, job.slot = job.slot, None
        self._batch.leave(slot)
        del self._running[slot]
        self._slots.release(slot)
        self.heads.clear(slot)  # a call of the backend, in which Ctrl-C may come: the slot is free by then

    def _let_go(self, job: Job) -> None:
        """The job needs its head no more, or has to ask for it again."""
        if job.head is not None:
            self.heads.release(job.head)
            job.head = None

    def _refuse(self, job: Job, meter: Meter) -> None:
        """A turn in which nothing could be done would be followed by another one like it: a refusal, not a stall."""
        reason = (
            f"task '{job.request.task.name}': a question needs two KV slots, one for its pictures and one for itself; "
            f"of {self._slots.size}, {self.heads.held_slots} are held by open frames or other pictures: release frames "
            "or open the engine with more slots"
        )
        self._end(job, meter, Outcome.FAILED, EngineBusy(reason))

    def _end(self, job: Job, meter: Meter, outcome: Outcome | None = None, error: ExaoneError | None = None) -> None:
        """Free what the job holds and hand out its answer; `outcome`: in place of that of its sequence."""
        sequence, slot = job.sequence, job.slot
        if slot is None:
            self._waiting.remove(job)
        else:
            self._vacate(job)
        self._let_go(job)
        if sequence is None:
            job.end_without(outcome or Outcome.FAILED, error, self.clock())
            return
        if outcome is not None:
            sequence.outcome, sequence.error = outcome, error
        self._learn(job, sequence)
        meter.add("tokens_sampled", sequence.tokens_sampled)
        meter.add("tokens_forced", sequence.tokens_forced)
        job.end(self.clock())

    def _learn(self, job: Job, sequence: Sequence) -> None:
        """How long answers to this task are, to close the reasoning of the next one early enough."""
        task, steps = job.request.task, job.answer_steps
        whole = sequence.outcome is Outcome.BUDGET and sequence.question.schema is not None
        if sequence.outcome is Outcome.DONE or whole:
            self._pace.answered(task, steps)
        elif sequence.outcome is Outcome.DEADLINE and steps:
            self._pace.answered(task, 2 * steps)  # longer than this, nobody knows how much
