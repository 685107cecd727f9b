"""Drafts from habit: what the grammar will have spelled in any case, and what has mostly followed the last tokens.

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

ORDERS = (3, 1)
"""Tokens that are looked back on; the longer look goes first."""
SURE = 3
"""How often, net of the times when it did not, a token must have followed before it is drafted."""
MOST_SURE = 8
"""Bounds the memory of the past: after so many more failures than this nothing is drafted any more."""
CONTEXTS_KEPT = 1 << 14


class NgramTable:
    """The token that mostly follows a few others. Forgets the oldest; not thread-safe.

    One candidate and one saturating count for each context, as in a processor's branch predictor: a token that follows
    raises its count, another one lowers it, and takes its place at zero. So a context that is followed by anything
    never becomes sure, and one that changes its habit is unlearned soon.
    """

    def __init__(self) -> None:
        self._followers: OrderedDict[tuple[int, ...], list[int]] = OrderedDict()

    def learn(self, tokens: list[int], start: int) -> None:
        """What followed what in `tokens`, from index `start` on."""
        followers = self._followers
        for at in range(max(start, ORDERS[0]), len(tokens)):
            token = tokens[at]
            for order in ORDERS:
                context = tuple(tokens[at - order : at])
                found = followers.get(context)
                if found is None:
                    followers[context] = [token, 1]
                elif found[0] == token:
                    found[1] = min(found[1] + 1, MOST_SURE)
                elif found[1] > 0:
                    found[1] -= 1
                else:
                    found[:] = token, 1
        while len(followers) > CONTEXTS_KEPT:
            followers.popitem(last=False)

    def follows(self, tokens: list[int]) -> int | None:
        """The token that is likely to follow; None where nobody can tell."""
        for order in ORDERS:
            found = self._followers.get(tuple(tokens[-order:]))
            if found is not None and found[1] >= SURE:
                return found[0]
        return None


class Habit:
    """Drafts the tokenizer's own spelling of forced text, and behind it what the table is sure of. A `Drafter`.

    Drafts are short and cost no look at the grammar: what it does not allow is found out when they are verified.

    Args:
        most: tokens of a draft.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._table = NgramTable()

    def extend(self, drafts: Mapping[int, tuple[Sequence, Draft]]) -> None:
        for sequence, draft in drafts.values():
            guesses = list(draft.spelled())
            recent = sequence.latest(ORDERS[0]) + guesses
            while len(guesses) < self._most and (token := self._table.follows(recent)) is not None:
                guesses.append(token)
                recent.append(token)
            draft.presume(guesses[: self._most])

    def learn(self, sequence: Sequence) -> None:
        written = len(sequence.written)
        tokens = sequence.latest(written + ORDERS[0])
        self._table.learn(tokens, len(tokens) - written)
