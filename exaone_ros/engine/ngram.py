"""Drafts from habit: what the grammar will have spelled in any case, and what has often followed the last tokens.

Answers under a schema repeat themselves: the same keys, brackets and words around values that nobody can foretell. The
rules force such text, but not always its tokens (a closing quote may be a token of its own or begin a longer one), and
then the model is asked for each. A few words of memory for each pair of neighbours foretell them without a model.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from exaone_ros.engine.sequence import Sequence
    from exaone_ros.engine.speculation import Draft

LOOK_BACK = 3
SEEN = 3
"""How often a context must have been seen before anything is drafted behind it."""
LIKELY = 1 / 8
"""Least chance of a token that is drafted, with those before it in the draft. A step that is saved costs as much as
some forty tokens that were run for nothing (bundled checkpoint, two cores), but a lower bound gained nothing more."""
FOLLOWERS_KEPT = 8
MOST_SEEN = 64
"""Bounds the memory of the past: here all counts are halved, so that new habits show soon."""
CONTEXTS_KEPT = 1 << 14
MOST_LEARNT = 256
"""Last tokens of an answer that are learnt from: others wait meanwhile, some microseconds for each token, and reasoning
may have thousands."""


class NgramTable:
    """What has followed a few others, and how often. Forgets what was not seen for longest; not thread-safe.

    A context is the last three tokens, the last one, or the one before the last: a number that was never seen stands
    where numbers are followed by the same. The first of them behind which something is likely decides.
    """

    def __init__(self) -> None:
        self._followers: OrderedDict[tuple[int, ...], list[int]] = OrderedDict()
        """By context how often it was seen, then tokens and their counts in turn, the most frequent first."""

    def learn(self, tokens: list[int], start: int) -> None:
        """What followed what in `tokens`, from index `start` on."""
        followers = self._followers
        for at in range(max(start, LOOK_BACK), len(tokens)):
            for context in _contexts(tokens, at):
                found = followers.get(context)
                if found is None:
                    followers[context] = [1, tokens[at], 1]
                else:
                    _count(found, tokens[at])
                    followers.move_to_end(context)  # numbers come and go, what comes back is worth keeping
        while len(followers) > CONTEXTS_KEPT:
            followers.popitem(last=False)

    def follows(self, tokens: list[int], least: float = LIKELY) -> tuple[int, float] | None:
        """The likely next token with its chance, 0..1; None where nothing has a chance of at least `least`.

        The chance is that of one time less than it came true: what came once says nothing. The token before the last
        says little, and is heard where more speaks for its follower than against it.
        """
        if len(tokens) < LOOK_BACK:
            return None
        three, last, before = _contexts(tokens, len(tokens))
        return self._likely(three, least) or self._likely(last, least) or self._likely(before, max(least, 0.5))

    def habitual(self, tokens: list[int]) -> int | None:
        """What has followed the last three tokens more often than not; None where nothing has."""
        found = self._likely(_contexts(tokens, len(tokens))[0], 0.5) if len(tokens) >= LOOK_BACK else None
        return found and found[0]

    def _likely(self, context: tuple[int, ...], least: float) -> tuple[int, float] | None:
        found = self._followers.get(context)
        if found is None or found[0] < SEEN:
            return None
        chance = (found[2] - 1) / found[0]
        return (found[1], chance) if chance >= least else None


def _contexts(tokens: list[int], at: int) -> tuple[tuple[int, ...], ...]:
    """What stands before index `at`; the number of tokens, or -1, tells the three kinds apart."""
    before, last = tokens[at - 2], tokens[at - 1]
    return (tokens[at - 3], before, last), (last,), (-1, before)


def _count(found: list[int], token: int) -> None:
    """Count one more follower of a context; one too many wears the least frequent down until it takes its place."""
    found[0] += 1
    for place in range(1, len(found), 2):
        if found[place] == token:
            at = place
            found[at + 1] += 1
            while at > 1 and found[at + 1] > found[at - 1]:
                found[at - 2 : at + 2] = found[at], found[at + 1], found[at - 2], found[at - 1]
                at -= 2
            break
    else:
        if len(found) <= 2 * FOLLOWERS_KEPT:
            found += token, 1
        elif found[-1] > 1:
            found[-1] -= 1
        else:
            found[-2:] = token, 1
    if found[0] >= MOST_SEEN:
        pairs = [(found[at], found[at + 1] // 2) for at in range(1, len(found), 2) if found[at + 1] > 1]
        found[:] = found[0] // 2, *(number for pair in pairs or [(token, 1)] for number in pair)


class Habit:
    """Drafts the tokenizer's own spelling of forced text, and behind it what is likely. A `Drafter`.

    Drafts are short and cost no look at the grammar: what it does not allow is found out when they are verified.

    Args:
        most: tokens of a draft.
        least: chance of its last token, 0..1: higher where somebody else would guess instead.
    """

    def __init__(self, most: int, least: float = LIKELY) -> None:
        self._most, self._least = most, least
        self._table = NgramTable()

    def extend(self, drafts: Mapping[int, tuple[Sequence, Draft]]) -> None:
        for sequence, draft in drafts.values():
            recent = sequence.latest(LOOK_BACK)
            guesses = list(draft.spelled())
            if guesses and self._table.habitual(recent) not in (None, guesses[0]):
                guesses = []  # a token that reaches over the end of the forced text
            recent = recent + guesses
            chance = 1.0
            while (
                len(guesses) < self._most and (found := self._table.follows(recent, self._least / chance)) is not None
            ):
                guesses.append(found[0])
                recent.append(found[0])
                chance *= found[1]
            if guesses:  # else somebody else may guess
                draft.presume(guesses[: self._most])

    def learn(self, sequence: Sequence) -> None:
        chosen = min(len(sequence.written) - sequence.opening, MOST_LEARNT)
        tokens = sequence.latest(chosen + LOOK_BACK)
        self._table.learn(tokens, len(tokens) - chosen)
