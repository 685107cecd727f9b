"""What may follow is found out while the backend runs the tokens that it follows.

Those tokens are chosen already, so there is nothing to guess: the grammar's mask after them depends on no logits. For a
vocabulary of 153,600 tokens it takes about half a millisecond for every row of a step, and beside the backend's run
nothing. A runtime leaves the interpreter to others while it computes, and so does the grammar library.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor

from exaone_ros.engine.sequence import Sequence

LEAST_VOCAB = 16384
"""Below this many tokens a mask takes less time than waking another thread."""


class Ahead:
    """Prepares sequences beside a call of the backend. Belongs to the thread that makes these calls.

    Args:
        vocab: size of the logits; with less than `LEAST_VOCAB` nothing is prepared.
    """

    def __init__(self, vocab: int) -> None:
        self._on = vocab >= LEAST_VOCAB
        self._helper: ThreadPoolExecutor | None = None
        self._under_way: Future[None] | None = None

    def begin(self, sequences: Iterable[Sequence]) -> None:
        """Before a call of the backend: prepare those whose next token will be chosen from its logits."""
        if not self._on:
            return
        if self._helper is None:
            self._helper = ThreadPoolExecutor(1, thread_name_prefix="exaone_grammar")
        self._under_way = self._helper.submit(_prepare, tuple(sequences))

    def end(self) -> None:
        """After it, however it ended: wait until nobody touches the sequences any more."""
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            under_way.result()

    def close(self) -> None:
        """End the helper's thread; a later `begin` starts another."""
        helper, self._helper = self._helper, None
        if helper is not None:
            helper.shutdown()


def _prepare(sequences: tuple[Sequence, ...]) -> None:
    for sequence in sequences:
        sequence.prepare()
