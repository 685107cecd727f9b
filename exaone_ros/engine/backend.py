"""The narrow waist between the engine and whatever computes: a Backend runs the two graphs, and nothing else.

A Backend knows images, token ids, slots and logits. It knows no text, no grammar, no tasks and no schedule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from exaone_ros.errors import EngineError, ExaoneError


@dataclass(frozen=True)
class Limits:
    """What a backend can hold.

    Attributes:
        slots: KV cache slots; a sequence or a stored prefix occupies one.
        context: tokens that fit into one slot.
        vocab: size of the logits.
        visual_tokens: most visual tokens that one encoded image may have.
        token_bytes: memory of one token's keys and values in a slot, in all layers; 0 = unknown.
        draft: tokens of a draft at most that a slot can be set back by where they are refused; None = any number.
    """

    slots: int
    context: int
    vocab: int
    visual_tokens: int
    token_bytes: int = 0
    draft: int | None = None


@dataclass(frozen=True)
class VisualTokens:
    """An encoded image.

    Attributes:
        embeddings: float32 [n, hidden] in raster order; device backends may hold a handle of their own instead.
        grid: (height, width) in visual tokens, n = height * width.
        preprocess_s: seconds that resizing and cutting into patches took, a part of the time of `Backend.encode`.
    """

    embeddings: NDArray[np.float32] | object
    grid: tuple[int, int]
    preprocess_s: float = 0.0

    @property
    def count(self) -> int:
        return self.grid[0] * self.grid[1]

    @property
    def nbytes(self) -> int:
        """Memory that they take; 0 where a handle of a device does not say."""
        return int(getattr(self.embeddings, "nbytes", 0))


@dataclass(frozen=True)
class Row:
    """Tokens to append to one slot: prefill, append and decode are the same call.

    Attributes:
        slot: where the tokens go.
        start: tokens that the slot already holds; the first new token gets this position (0-based). May be less than
            what was written before: later entries are then forgotten. How far back it may go see `keeps`.
        tokens: int64 [n], n >= 1.
        visual: images whose embeddings replace the image-pad tokens in `tokens`, in order.
        logits: for how many of the last tokens logits are wanted; 0 = none.
    """

    slot: int
    start: int
    tokens: NDArray[np.int64]
    visual: tuple[VisualTokens, ...] = field(default=())
    logits: int = 1


@dataclass(frozen=True)
class DraftRow:
    """Where to guess ahead in one slot.

    Attributes:
        slot: which.
        start: tokens that the slot holds and that count; what it holds beyond is of drafts that were refused.
        tokens: int64 [n], n >= 1: what follows them for sure or as a draft, and was not run yet.
    """

    slot: int
    start: int
    tokens: NDArray[np.int64]


class Backend(Protocol):
    """Runs EXAONE 4.5's vision encoder and decoder. One thread at a time calls it."""

    name: str

    @property
    def limits(self) -> Limits:
        """What fits; constant over the backend's life."""
        ...

    def encode(self, image: NDArray[np.uint8]) -> VisualTokens:
        """Encode one image, uint8 RGB [H, W, 3], resized by the checkpoint's own rule.

        Raises:
            ImageError: wrong shape or type, or a size or aspect ratio that the checkpoint does not take.
        """
        ...

    def run(self, rows: Sequence[Row]) -> list[NDArray[np.float32]]:
        """Run all rows as one batch; each slot may stand in one row only.

        Returns:
            For each row its logits, float32 [row.logits, vocab].

        Raises:
            EngineError: a row does not fit (slot, position, image-pad tokens without images) or the runtime failed.
        """
        ...

    def copy(self, source: int, targets: Sequence[int], length: int) -> None:
        """Copy the first `length` positions of slot `source` into each target slot."""
        ...

    def close(self) -> None:
        """Free memory; later calls raise EngineError. May be called twice."""
        ...


@runtime_checkable
class DraftingBackend(Backend, Protocol):
    """A backend with the checkpoint's MTP layer: it guesses tokens at a fraction of the cost of running them.

    A capability that a backend may lack; see `drafting`.
    """

    @property
    def drafts(self) -> bool:
        """True where it was opened with the MTP layer."""
        ...

    def draft(self, rows: Sequence[DraftRow]) -> list[NDArray[np.float32]]:
        """Guess the token behind the last of each row's `tokens`.

        Leaves what the slots hold as it is. A row that goes on where the one before for its slot ended costs one run
        of the layer, a new one a run for each of its tokens.

        Returns:
            For each row the logits of its guess, float32 [vocab].

        Raises:
            EngineError: a row does not fit, was not run up to `start`, or the runtime failed.
        """
        ...


@runtime_checkable
class WindowedBackend(Backend, Protocol):
    """A backend whose sliding-window layers forget what lies behind their window.

    A slot that holds more than they do can be set back a little, as a refused draft needs it, but not to any place.
    """

    def keeps(self, slot: int, length: int) -> bool:
        """Whether a row or a copy may go on from the first `length` positions that a slot holds."""
        ...


def keeps(backend: Backend, slot: int, length: int) -> bool:
    """Whether a slot can go on from its first `length` positions; True where a backend forgets nothing."""
    return not isinstance(backend, WindowedBackend) or backend.keeps(slot, length)


def drafting(backend: Backend) -> DraftingBackend | None:
    """The backend as one that drafts, or None where it cannot."""
    return backend if isinstance(backend, DraftingBackend) and backend.drafts else None


class named_failures:  # noqa: N801  # it is used like a function
    """Whatever a runtime raises in the `with` block leaves it as an error of this package that names the backend.

    Args:
        backend: that is called in the block.
        method: of it.
    """

    __slots__ = ("_backend", "_method")

    def __init__(self, backend: Backend, method: str) -> None:
        self._backend, self._method = backend, method

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, ExaoneError):
            reason = f"{type(error).__name__}: {error}"
            raise EngineError(f"backend '{self._backend.name}' failed in {self._method}: {reason}") from error
