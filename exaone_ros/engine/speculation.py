"""Guessing ahead: tokens that a question's next step verifies, several at once. Knows no slots' contents and no tasks.

A draft is run behind the tokens that are due, with logits at each of its places. The tokens are then chosen from those
logits one after the other, exactly as without drafts; the first that differs from the draft ends it, and what was run
behind is forgotten. So a draft can make an answer faster, never different: whether it is greedy or drawn, and whoever
made the draft.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from exaone_ros.engine.backend import Backend, DraftRow, drafting, named_failures
from exaone_ros.engine.constraint import Constraint
from exaone_ros.engine.ngram import LIKELY, Habit
from exaone_ros.errors import EngineError

if TYPE_CHECKING:
    from exaone_ros.engine.sequence import Sequence

MOST_MTP = 3
MOST_PREVIOUS = 64
MOST_NGRAM = 16
LONGEST_CHAIN = 4
"""Tokens through which the MTP layer is led one by one to a guess, at most: each costs a run of it."""
LONGEST_DRAFT = 96
"""Tokens of a draft at most, with those that its guesses force: a backend whose sliding-window layers hold only their
window has room for no more that are refused."""
FIRST_GUESSES = 4
SURER_THAN_MTP = 0.5
"""Least chance of a token that habit drafts in place of the MTP layer, whose first guess comes true about as often."""
ANSWERS_KEPT = 256


@dataclass(frozen=True)
class Speculation:
    """What is drafted.

    Attributes:
        previous: tokens of the last answer to the same question that are drafted in a step at most, 0 to 64; 0 = none.
            Costs the longer rows; helps where the view changes little from frame to frame. Fewer are drafted where
            fewer come true.
        mtp: guesses of the checkpoint's MTP layer in a step at most, 0 to 3, where there is no last answer to draft
            from, or where it has just foreseen nothing; 0 = none. Needs a backend and a checkpoint that have the layer.
        ngram: tokens drafted in a step at most, 0 to 16, of forced text whose spelling in tokens is left open, and of
            what has often followed the last tokens in earlier answers of any question, where the last answer has
            nothing or has just foreseen nothing; 0 = none. Asks no model.

    Raises:
        EngineError: a value is out of range.
    """

    previous: int = 0
    mtp: int = 0
    ngram: int = 0

    @property
    def on(self) -> bool:
        """Anything is drafted at all."""
        return self.previous > 0 or self.mtp > 0 or self.ngram > 0

    def __post_init__(self) -> None:
        for name, value, most in (
            ("previous", self.previous, MOST_PREVIOUS),
            ("mtp", self.mtp, MOST_MTP),
            ("ngram", self.ngram, MOST_NGRAM),
        ):
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
                raise EngineError(f"speculation: {name} is {value!r}; expected an integer from 0 to {most}")


CHEAP = Speculation(ngram=4)
"""What an engine drafts where nobody says otherwise: it costs next to nothing and needs no particular checkpoint."""


class Draft:
    """Tokens behind those that a sequence runs next, as far as its rules allow them.

    Args:
        constraints: the sequence's; copied where guesses are checked, as a draft takes tokens that may never come.
        due: what the sequence runs next.
        room: tokens that fit behind `due`.
    """

    def __init__(self, constraints: list[Constraint], due: list[int], room: int) -> None:
        self._originals = constraints
        self._room = room = min(room, LONGEST_DRAFT)
        self.due = due
        self.tokens: list[int] = []
        """Guesses, each with what it forces."""
        self.guesses = 0
        self.unchecked = False
        """Whether the guesses were taken without a look at the rules: what they force is then counted among them."""
        self.open = room > 0 and bool(constraints)
        """More may be guessed."""

    def guess(self, logits: NDArray[np.float32]) -> None:
        """Take the most probable of the allowed tokens; logits float32 [vocab]."""
        self._extend(lambda allowed: int(allowed[logits[allowed].argmax()]))

    @cached_property
    def _constraints(self) -> list[Constraint]:
        """Made when first needed: copying a grammar's state costs about as much as choosing a token."""
        return [constraint.copy() for constraint in self._originals]

    def spelled(self) -> tuple[int, ...]:
        """Tokens that spell what has to follow the tokens that are due; empty where nothing has to."""
        return self._originals[0].spelled() if self.open else ()

    def presume(self, tokens: list[int]) -> None:
        """Take tokens, one at least, that nobody has checked against the rules; ends the draft."""
        self.tokens += tokens[: max(0, self._room - len(self.tokens))]
        self.guesses, self.unchecked = len(self.tokens), True
        self.open = False

    def take(self, token: int) -> None:
        """Take one token with what it forces; one that the rules do not allow ends the draft."""
        self._extend(lambda allowed: token)

    def _extend(self, choose: Callable[[NDArray[np.int64]], int]) -> None:
        try:
            allowed = self._constraints[0].allowed()
            token = choose(allowed)
            at = int(np.searchsorted(allowed, token))
            if at == allowed.size or allowed[at] != token:
                self.open = False
            else:
                self._take(token)
        except EngineError:  # rules that break on a guess: should it come true, the sequence itself meets them
            self.open = False

    def _take(self, token: int) -> None:
        self._constraints[0].take(token)
        self.tokens.append(token)
        self.guesses += 1
        while self._constraints:
            constraint = self._constraints[0]
            if not constraint.complete:
                self.tokens += constraint.forced()
            if not constraint.complete:
                break
            del self._constraints[0]
        if not self._constraints or len(self.tokens) >= self._room:
            del self.tokens[self._room :]
            self.open = False


class Drafter(Protocol):
    """Makes drafts. Belongs to the thread that drives the backend."""

    def extend(self, drafts: Mapping[int, tuple[Sequence, Draft]]) -> None:
        """Guess behind these sequences, by their slots; a draft may be left empty.

        Raises:
            EngineError: the backend failed.
        """
        ...

    def learn(self, sequence: Sequence) -> None:
        """A sequence has come to its end."""
        ...


@dataclass
class _Said:
    """The last answer to a question, and how many tokens of it are worth guessing at a time."""

    tokens: tuple[int, ...] = ()
    guesses: int = FIRST_GUESSES


class PreviousAnswer:
    """Drafts what the last answer to the same question had at this place: boxes keep their form, things stay.

    How much is drafted follows what came true: twice as much after a draft that was right to its end, else one guess
    more than came true, so that a view that changes costs little.

    Args:
        most: tokens of a draft, without those that the last of them forces.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._said: OrderedDict[tuple[str, bytes], _Said] = OrderedDict()

    def extend(self, drafts: Mapping[int, tuple[Sequence, Draft]]) -> None:
        for sequence, draft in drafts.values():
            said = self._said.get(sequence.key)
            if said is None:
                continue
            if sequence.last_draft is not None:
                accepted, whole = sequence.last_draft
                said.guesses = min(self._most, 2 * said.guesses) if whole else accepted + 1
            at = len(sequence.written)
            while draft.open and draft.guesses < said.guesses and at + len(draft.tokens) < len(said.tokens):
                if len(draft.tokens) >= self._most:
                    break
                draft.take(said.tokens[at + len(draft.tokens)])

    def learn(self, sequence: Sequence) -> None:
        self._said.setdefault(sequence.key, _Said()).tokens = sequence.written
        self._said.move_to_end(sequence.key)
        if len(self._said) > ANSWERS_KEPT:
            self._said.popitem(last=False)


class MtpLayer:
    """Drafts what the checkpoint's MTP layer says.

    Args:
        backend: with the layer.
        most: guesses of a draft.

    Raises:
        EngineError: the backend does not have the layer.
    """

    def __init__(self, backend: Backend, most: int) -> None:
        layer = drafting(backend)
        if layer is None:
            raise EngineError(
                f"speculation: mtp is {most}, but backend '{backend.name}' has no MTP layer or was not opened with it: "
                "open it with mtp=True, or set mtp to 0"
            )
        self._backend, self._most = layer, most

    def extend(self, drafts: Mapping[int, tuple[Sequence, Draft]]) -> None:
        waiting = {
            slot: (sequence, draft)
            for slot, (sequence, draft) in drafts.items()
            if not sequence.reading and len(draft.due) <= LONGEST_CHAIN
        }
        for _ in range(self._most):
            waiting = {
                slot: (sequence, draft)
                for slot, (sequence, draft) in waiting.items()
                if draft.open and len(draft.tokens) < LONGEST_CHAIN
            }
            if not waiting:
                return
            rows = [
                DraftRow(slot, sequence.length, np.array(draft.due + draft.tokens, np.int64))
                for slot, (sequence, draft) in waiting.items()
            ]
            with named_failures(self._backend, "draft"):
                guesses = self._backend.draft(rows)
            for (_, draft), logits in zip(waiting.values(), guesses, strict=True):
                draft.guess(logits)

    def learn(self, sequence: Sequence) -> None:
        """Nothing to learn: the layer is trained."""


class Speculator:
    """Asks the drafters in turn: the last answer, habit, the MTP layer; the next where one has nothing.

    The last answer is passed over after it foresaw nothing, where there is anybody else.

    Args:
        backend: runs the model.
        settings: what is drafted.

    Raises:
        EngineError: the backend lacks what the settings ask for.
    """

    def __init__(self, backend: Backend, settings: Speculation) -> None:
        self._context, self._most = backend.limits.context, backend.limits.draft
        self._previous = PreviousAnswer(settings.previous) if settings.previous else None
        # The layer sees the picture: it is asked where habit has no more to say than that something is not unlikely.
        self._habit = Habit(settings.ngram, SURER_THAN_MTP if settings.mtp else LIKELY) if settings.ngram else None
        self._mtp = MtpLayer(backend, settings.mtp) if settings.mtp else None
        everybody: tuple[Drafter | None, ...] = (self._previous, self._habit, self._mtp)
        self._drafters = [drafter for drafter in everybody if drafter is not None]

    def drafts(self, sequences: Mapping[int, Sequence], room: Mapping[int, int] | None = None) -> dict[int, list[int]]:
        """Tokens to run behind those that are due, by slot; sequences for which nothing is guessed are left out.

        Args:
            sequences: by slot.
            room: tokens of a draft at most, by slot; slots that it leaves out are not limited.

        Raises:
            EngineError: the backend failed.
        """
        open_: dict[int, tuple[Sequence, Draft]] = {}
        for slot, sequence in sequences.items():
            draft = sequence.draft(self._context, self._room(slot, room))
            if draft.open:
                open_[slot] = sequence, draft
        made: dict[int, list[int]] = {}
        for drafter in self._drafters:
            asked = {
                slot: (sequence, draft)
                for slot, (sequence, draft) in open_.items()
                if not draft.tokens and (drafter is not self._previous or len(self._drafters) == 1 or _helped(sequence))
            }
            if asked:
                drafter.extend(asked)
        for slot, (sequence, draft) in open_.items():
            if draft.tokens:
                made[slot] = draft.tokens
                sequence.guesses_drafted += draft.guesses
                sequence.unchecked = draft.unchecked
        return made

    def _room(self, slot: int, room: Mapping[int, int] | None) -> int | None:
        """Tokens of a draft at most; None: nobody limits them."""
        given = None if room is None else room.get(slot)
        if given is None or self._most is None:
            return self._most if given is None else given
        return min(given, self._most)

    def learn(self, sequence: Sequence) -> None:
        """A sequence has come to a good end."""
        for drafter in self._drafters:
            drafter.learn(sequence)


def _helped(sequence: Sequence) -> bool:
    """The last draft, if there was one, foresaw something."""
    return sequence.last_draft is None or sequence.last_draft[0] > 0
