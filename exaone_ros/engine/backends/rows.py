"""What every backend checks before it runs rows, so that all of them refuse the same things with the same words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from exaone_ros.engine.backend import DraftRow, Limits, Row
from exaone_ros.engine.backends.ring import Intact
from exaone_ros.errors import EngineError
from exaone_ros.model.config import ModelConfig


def check_sizes(config: ModelConfig, slots: int, context: int, threads: int, visual_tokens: int = 0) -> None:
    """Refuse sizes that a backend cannot be opened with.

    Raises:
        EngineError: names the argument, its value and the range.
    """
    longest = config.text.max_context
    for what, value, least, most in (
        ("slots", slots, 1, 4096),
        ("context", context, 1, longest),
        ("threads", threads, 0, 1024),
        ("visual_tokens", visual_tokens, 0, 1 << 20),
    ):
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise EngineError(f"{what} is {value!r}; expected {least} to {most}")


def check_rows(rows: Sequence[Row], limits: Limits, image_token: int) -> None:
    """Refuse rows that do not fit.

    Raises:
        EngineError: names the slot, what was found and what was expected.
    """
    taken: set[int] = set()
    for row in rows:
        if not 0 <= row.slot < limits.slots:
            raise EngineError(f"slot {row.slot} does not exist; expected 0 to {limits.slots - 1}")
        if row.slot in taken:
            raise EngineError(f"slot {row.slot} stands in two rows of one run; expected each slot once")
        taken.add(row.slot)
        tokens = row.tokens
        if tokens.ndim != 1 or tokens.dtype.kind not in "iu" or not len(tokens):
            raise EngineError(
                f"slot {row.slot}: tokens are {tokens.dtype} {list(tokens.shape)}; expected int64 [n], n >= 1"
            )
        ids = tokens.tolist()  # mostly one or two: plain Python beats an array's reductions
        if min(ids) < 0 or max(ids) >= limits.vocab:
            raise EngineError(
                f"slot {row.slot}: token ids from {min(ids)} to {max(ids)}; expected 0 to {limits.vocab - 1}"
            )
        if row.start < 0 or row.start + len(tokens) > limits.context:
            raise EngineError(
                f"slot {row.slot}: {len(tokens)} tokens at position {row.start} do not fit into the context of "
                f"{limits.context}"
            )
        if not 0 <= row.logits <= len(tokens):
            raise EngineError(f"slot {row.slot}: logits of {row.logits} tokens asked for; the row has {len(tokens)}")
        pads, seen = ids.count(image_token), sum(image.count for image in row.visual) if row.visual else 0
        if pads != seen:
            raise EngineError(f"slot {row.slot}: {pads} image-pad tokens for {seen} visual tokens; expected as many")


def check_copy(source: int, targets: Sequence[int], length: int, held: NDArray[np.int64]) -> None:
    """Refuse a copy between slots that do not exist, or of more than the source holds.

    Args:
        held: int64 [slots], how many tokens each slot holds.

    Raises:
        EngineError: names the slot.
    """
    for slot in (source, *targets):
        if not 0 <= slot < len(held):
            raise EngineError(f"slot {slot} does not exist; expected 0 to {len(held) - 1}")
    if not 0 <= length <= held[source]:
        raise EngineError(f"slot {source} holds {held[source]} tokens; {length} cannot be copied from it")
    if source in targets:
        raise EngineError(f"slot {source} is source and target of one copy")


def check_start(row: Row, held: NDArray[np.int64]) -> None:
    """Refuse a row that starts beyond what its slot holds: the gap would be read as if it were tokens.

    Raises:
        EngineError: names the slot.
    """
    if row.start > held[row.slot]:
        raise EngineError(f"slot {row.slot} holds {held[row.slot]} tokens; a row cannot start at {row.start}")


def check_kept(slot: int, length: int, intact: Intact) -> None:
    """Refuse to go on from the first `length` positions of a slot where the window before was overwritten since.

    Raises:
        EngineError: names the slot.
    """
    if not intact.keeps(slot, length):
        raise EngineError(
            f"slot {slot} cannot go on from its first {length} tokens: its sliding-window layers hold nothing before "
            f"position {intact.first(slot)} any more; expected 0, or a place whose window lies behind that"
        )


def check_draft_rows(rows: Sequence[DraftRow], limits: Limits, held: NDArray[np.int64], image_token: int) -> None:
    """Refuse drafts that do not fit.

    Args:
        rows: where to guess.
        limits: of the backend.
        held: int64 [slots], how many tokens each slot holds.
        image_token: id that stands for a visual token: nothing is drafted over an image.

    Raises:
        EngineError: names the slot, what was found and what was expected.
    """
    check_rows([Row(row.slot, row.start, row.tokens) for row in rows], limits, -1)
    for row in rows:
        if not 1 <= row.start <= held[row.slot]:
            raise EngineError(
                f"slot {row.slot} holds {held[row.slot]} tokens; a draft cannot start behind {row.start} of them"
            )
        if image_token in row.tokens:
            raise EngineError(f"slot {row.slot}: an image-pad token among the tokens of a draft; expected text only")
