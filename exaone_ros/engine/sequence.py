"""One question while it is being decoded. Knows token ids and constraints; no slots' contents, no images, no tasks."""

from __future__ import annotations

import enum
import zlib
from collections.abc import Mapping
from collections.abc import Sequence as Ordered
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exaone_ros.engine.constraint import Constraint, FreeText, Thinking
from exaone_ros.engine.grammar import Grammars, JsonAnswer
from exaone_ros.engine.sampling import GREEDY, Sampling, choose
from exaone_ros.engine.speculation import Draft
from exaone_ros.engine.token_table import TokenTable
from exaone_ros.errors import EngineError, ExaoneError, PromptTooLong
from exaone_ros.tasks.evidence import Decoded, LaterEvidence, TokenEvidence

LEAST_ANSWER_TOKENS = 16
"""Room that a question needs behind its prompt; with less, not even a count could be written."""

RESERVED_FOR_ANSWER = 256
"""Room that reasoning leaves to the answer where the context is short."""

NOTHING_CHOSEN = np.zeros(0, np.int64)


class Outcome(enum.Enum):
    """How a question ended."""

    DONE = "done"
    """Answered in full."""
    BUDGET = "budget"
    """A budget of tokens or time ended the reasoning or a free answer; what there is, is valid."""
    DEADLINE = "deadline"
    """The deadline came before the answer was complete; there is no result."""
    CANCELLED = "cancelled"
    """The caller did not want the answer any more."""
    FAILED = "failed"
    """No answer; the error says why."""


@dataclass(frozen=True)
class Prefix:
    """A stored prompt head that sequences start from.

    Attributes:
        slot: where it lies.
        length: tokens in it.
    """

    slot: int
    length: int


@dataclass(frozen=True)
class Question:
    """What is decoded, and under which rules.

    Attributes:
        name: for messages.
        tokens: int64 [n], the prompt behind the prefix, up to where the model has to go on.
        schema: JSON schema of the answer; None = free text.
        max_tokens: of the answer.
        thinking_budget: tokens of reasoning at most; 0 = the prompt asks for none.
        sampling: how tokens are chosen.
    """

    name: str
    tokens: NDArray[np.int64]
    schema: Mapping[str, Any] | None
    max_tokens: int
    thinking_budget: int = 0
    sampling: Sampling = field(default=GREEDY)


class Sequence:
    """Decodes one question: hands out the tokens to run next and takes the logits that follow.

    Args:
        question: what is decoded.
        prefix: what it starts from.
        table, grammars: of the model.
        context: tokens that fit into a slot.

    Raises:
        PromptTooLong: prefix, prompt and the least answer do not fit into the context.
        TaskError: the question's schema is refused.
    """

    def __init__(self, question: Question, prefix: Prefix, table: TokenTable, grammars: Grammars, context: int) -> None:
        prompt = prefix.length + question.tokens.size
        least = min(question.max_tokens, LEAST_ANSWER_TOKENS)
        if prompt + least > context:
            raise PromptTooLong(
                f"task '{question.name}': frame and system prompt take {prefix.length} tokens, the question "
                f"{question.tokens.size}, its answer at least {least}: {prompt + least} of a context of {context}; "
                "shorten the question or open the engine with a larger context"
            )
        self.question = question
        self.prefix = prefix
        self.outcome: Outcome | None = None
        self.error: ExaoneError | None = None
        self.tokens_sampled = 0
        self.tokens_forced = 0
        self.guesses_drafted = 0
        """Tokens guessed in drafts, without those that their guesses are known to force: of a draft that nobody checked
        against the grammar, that is known where it came true."""
        self.guesses_accepted = 0
        """Those of them that were then chosen."""
        self.unchecked = False
        """Whether nobody checked the last draft against the grammar."""
        self.last_draft: tuple[int, bool] | None = None
        """How many guesses of the last step came true, and whether its draft was right to its end; None: no draft."""
        self._table = table
        self._context = context
        self._length = prefix.length
        self._pending: list[int] = question.tokens.tolist()
        self._tokens = self._pending.copy()
        self.reading = True
        """True until the prompt has been run, and again after `restart`."""
        self._evidence: list[TokenEvidence] = []
        self._answer_tokens = 0
        self._chosen: set[int] = set()
        self._ahead: NDArray[np.int64] | Exception | None = None
        self._thinking: Thinking | None = None
        self._constraints: list[Constraint] = []
        if question.thinking_budget:
            reserve = min(question.max_tokens, RESERVED_FOR_ANSWER)
            budget = min(question.thinking_budget, max(1, context - prompt - reserve))
            self._thinking = Thinking(table, budget)
            self._constraints.append(self._thinking)
        answer = FreeText(table) if question.schema is None else grammars.start(question.schema)
        self._constraints.append(answer)
        self._settle()
        self.opening = len(self.written)
        """Tokens behind the prompt that were there before anything was chosen."""

    @property
    def finished(self) -> bool:
        """True once `outcome` is set; the sequence wants no more tokens run."""
        return self.outcome is not None

    @property
    def length(self) -> int:
        """Tokens that its slot holds: where `next_tokens` go."""
        return self._length

    @property
    def next_tokens(self) -> NDArray[np.int64]:
        """int64 [n], the tokens to run next: the prompt at first, then each chosen token with those it forces."""
        return np.array(self._pending, np.int64)

    @property
    def due(self) -> list[int]:
        """`next_tokens` as they are kept; the caller only reads the list."""
        return self._pending

    @property
    def answering(self) -> bool:
        """True once the reasoning, if there is any, is over."""
        return len(self._constraints) < 2

    @property
    def reasoning_bytes(self) -> bytes:
        """The reasoning so far, up to where a closing tag may have begun; may end inside a character."""
        if self._thinking is None:
            return b""
        return self._thinking.settled if not self.answering else self._thinking.content

    @property
    def answer_bytes(self) -> bytes:
        """The answer so far; may end inside a character."""
        return b"".join(token.text for token in self._evidence)

    def prepare(self) -> None:
        """Find out what may follow `next_tokens`, ahead of `advance`. Another thread may call it while they are run.

        What fails here fails the sequence in `advance`.
        """
        try:
            self._ahead = self._constraints[0].allowed()
        except Exception as error:  # the grammar library's own too; `advance` names it
            self._ahead = error

    def advance(self, logits: NDArray[np.float32], drafted: Ordered[int] = ()) -> None:
        """Choose the token behind `next_tokens`, which have been run, and as many more as the draft foresaw.

        What fails here fails this sequence only: it is finished with the outcome FAILED.

        Args:
            logits: float32 [1 + d, vocab] at the last of `next_tokens` and at each token of the draft.
            drafted: the d tokens that were run behind `next_tokens`.
        """
        self.read(len(self._pending))
        self.reading = False
        at, foreseen, accepted_before = 0, 0, self.guesses_accepted
        try:
            while True:
                self._choose(logits[at])
                self._settle()
                due = self._pending
                foreseen = _common(due, drafted[at:])
                if foreseen:
                    self.guesses_accepted += 1
                    if self.unchecked:
                        self.guesses_drafted -= foreseen - 1
                if self.finished or foreseen < len(due):
                    break
                self.read(foreseen)
                at += foreseen
        except ExaoneError as error:
            self.fail(error)
        except Exception as error:  # the grammar library's own; whatever it is, the other sequences go on
            self.fail(EngineError(f"task '{self.question.name}': decoding failed: {type(error).__name__}: {error}"))
        whole = at + foreseen >= len(drafted)
        self.last_draft = (self.guesses_accepted - accepted_before, whole) if drafted else None

    def draft(self, context: int, most: int | None = None) -> Draft:
        """An empty draft behind `next_tokens`.

        Args:
            context: tokens that fit into a slot.
            most: tokens of the draft; None = as many as fit.
        """
        due = self._pending.copy()
        room = context - self._length - len(due)
        return Draft(self._constraints, due, room if most is None else min(room, most))

    @property
    def written(self) -> tuple[int, ...]:
        """All tokens behind the prompt: reasoning, tags, answer, run or not."""
        return tuple(self._tokens[self.question.tokens.size :])

    def latest(self, count: int) -> list[int]:
        """The last `count` tokens of what is written, with the question before it, run or not; fewer if there are."""
        return self._tokens[-count:]

    @property
    def key(self) -> tuple[str, bytes]:
        """The same for the same question on another frame."""
        return self.question.name, self.question.tokens.tobytes()

    def read(self, count: int) -> None:
        """The first `count` of `next_tokens` have been run, and no logits were asked for."""
        self._length += count
        del self._pending[:count]

    def restart(self, prefix: Prefix) -> None:
        """Start over from the prefix in a new slot: what was decoded so far is run again, not decided again."""
        self.prefix = prefix
        self._length, self._pending, self.reading = prefix.length, self._tokens.copy(), True

    def conclude(self) -> None:
        """Close the reasoning now, as its budget would, and go on to the answer; without effect on an answer."""
        if self.finished or self.answering or self._thinking is None:
            return
        self._thinking.conclude()
        try:
            self._settle()
        except ExaoneError as error:
            self.fail(error)

    @property
    def cuttable(self) -> bool:
        """True where what is decoded so far is an answer: free text that has begun."""
        return not self.finished and self.answering and bool(self._evidence) and self.question.schema is None

    def expire(self, *, cut: bool) -> None:
        """End because of the deadline; `cut`: free text that has begun is an answer as it is."""
        self.outcome = Outcome.BUDGET if cut and self.cuttable else Outcome.DEADLINE

    def fail(self, error: ExaoneError) -> None:
        """End without an answer."""
        self.outcome, self.error = Outcome.FAILED, error

    def cancel(self) -> None:
        """End because nobody waits for the answer any more."""
        self.outcome = Outcome.CANCELLED

    def decoded(self) -> Decoded:
        """The answer, for `Task.read`."""
        text = self.answer_bytes.decode("utf-8", "replace")
        reasoning = self._thinking.text if self._thinking else ""
        return Decoded(text, tuple(self._evidence), reasoning)

    @cached_property
    def _rng(self) -> np.random.Generator:
        """Made when first drawn from: it costs as much as choosing a token greedily does."""
        return np.random.default_rng([self.question.sampling.seed, zlib.crc32(self.question.name.encode())])

    def _choose(self, logits: NDArray[np.float32]) -> None:
        constraint, sampling = self._constraints[0], self.question.sampling
        before = np.array(sorted(self._chosen), np.int64) if sampling.presence_penalty else NOTHING_CHOSEN
        structured = isinstance(constraint, JsonAnswer)
        rng = self._rng if sampling.temperature else None
        ahead, self._ahead = self._ahead, None
        if isinstance(ahead, Exception):
            raise ahead
        allowed = constraint.allowed() if ahead is None else ahead
        choice = choose(logits, allowed, sampling, rng, before)
        constraint.take(choice.token)
        self._chosen.add(choice.token)
        self.tokens_sampled += 1
        names = self._table.token_bytes
        text = names[choice.token]
        if structured:
            self._append(choice.token, LaterEvidence(text, choice, names))
        else:  # may go on for thousands of tokens: what they were chosen from is not kept, and of reasoning nothing is
            self._append(choice.token, TokenEvidence(text, choice.probability if self.answering else 1.0))

    def _settle(self) -> None:
        """Take what is forced now, go on to the next constraint, end where nothing more may follow."""
        while self._constraints:
            constraint = self._constraints[0]
            if constraint.complete:
                del self._constraints[0]
                continue
            forced = constraint.forced()
            for token in forced:
                self._append(token, TokenEvidence(self._table.token_bytes[token]))
            self.tokens_forced += len(forced)
            if not constraint.complete:
                break
        if not self._constraints:
            concluded = self._thinking is not None and self._thinking.concluded
            self.outcome = Outcome.BUDGET if concluded else Outcome.DONE
        elif self._answer_tokens >= self.question.max_tokens:
            self._run_out(EngineError(f"the answer did not end within {self.question.max_tokens} tokens"))
        elif (used := self._length + len(self._pending)) > self._context:
            self._run_out(PromptTooLong(f"the answer did not end within the context: {used} of {self._context} tokens"))

    def _append(self, token: int, evidence: TokenEvidence) -> None:
        self._pending.append(token)
        self._tokens.append(token)
        if len(self._constraints) == 1:  # the answer, not the reasoning before it
            self._answer_tokens += 1
            if token not in self._table.end_of_turn:
                self._evidence.append(evidence)

    def _run_out(self, error: ExaoneError) -> None:
        """No more tokens may be spent: free text is cut, a half JSON document is no answer."""
        if len(self._constraints) == 1 and isinstance(self._constraints[0], FreeText):
            self.outcome = Outcome.BUDGET
        else:
            self.fail(type(error)(f"task '{self.question.name}': {error}"))


def _common(tokens: Ordered[int], others: Ordered[int]) -> int:
    """How many tokens both begin with."""
    at = 0
    for one, other in zip(tokens, others, strict=False):
        if one != other:
            break
        at += 1
    return at
