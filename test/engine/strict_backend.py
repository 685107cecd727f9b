"""A Backend that does no arithmetic but holds every caller to the protocol.

It remembers what each slot holds and refuses what a real backend may only compute wrongly: positions that were never
written, a slot in two rows, tokens of a wrong type, image-pad tokens without images, rows beyond the context.
Its logits are a function of the slot's whole content, so that one misplaced token changes the answer.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from exaone_ros.engine.backend import Limits, Row, VisualTokens
from exaone_ros.engine.backends.ring import Intact, Ring
from exaone_ros.errors import EngineError, ImageError

IMAGE_TOKEN = 67
Content = tuple[int | bytes, ...]
"""What a slot holds: token ids, and the bytes of visual embeddings."""
LanguageModel = Callable[[Content], NDArray[np.float32]]


def hashed_logits(vocab: int, spread: float = 3.0) -> LanguageModel:
    """Logits drawn by a generator that is seeded with the content: arbitrary, but the same for the same content."""

    def model(content: Content) -> NDArray[np.float32]:
        seed = zlib.crc32(repr(content).encode())
        return np.random.default_rng(seed).normal(0, spread, vocab).astype(np.float32)

    return model


@dataclass
class StrictBackend:
    """See the module. `calls` records the rows of each `run`; `fail_at` raises there, `on_run` is called before it."""

    slots: int = 4
    context: int = 512
    vocab: int = 1792
    token_bytes: int = 0
    longest_draft: int | None = None
    model: LanguageModel | None = None
    fail_at: int | None = None
    on_run: Callable[[int], None] = lambda call: None
    name: str = "strict"
    calls: list[list[Row]] = field(default_factory=list)
    copies: list[tuple[int, tuple[int, ...], int]] = field(default_factory=list)
    encoded: int = 0
    closed: bool = False

    def __post_init__(self) -> None:
        self.model = self.model or hashed_logits(self.vocab)
        self.contents: list[Content] = [()] * self.slots

    @property
    def limits(self) -> Limits:
        return Limits(
            self.slots,
            self.context,
            self.vocab,
            visual_tokens=256,
            token_bytes=self.token_bytes,
            draft=self.longest_draft,
        )

    def encode(self, image: NDArray[np.uint8]) -> VisualTokens:
        self._check_open()
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ImageError(f"image is {getattr(image, 'dtype', type(image))}; expected uint8 [H, W, 3]")
        self.encoded += 1
        cells = image[::160, ::160].astype(np.float32).sum(-1)
        return VisualTokens(cells.reshape(-1, 1), cells.shape, preprocess_s=1e-6)

    def run(self, rows: Sequence[Row]) -> list[NDArray[np.float32]]:
        self._check_open()
        self.on_run(len(self.calls))
        self.calls.append(list(rows))
        if self.fail_at == len(self.calls) - 1:
            raise MemoryError("out of memory, as a runtime might say")
        assert rows, "an empty batch"
        assert len({row.slot for row in rows}) == len(rows), "a slot stands in two rows"
        return [self._append(row) for row in rows]

    def copy(self, source: int, targets: Sequence[int], length: int) -> None:
        self._check_open()
        assert source not in targets and len(set(targets)) == len(targets) and targets
        assert length <= len(self.contents[source]), "copies more than the source holds"
        self.copies.append((source, tuple(targets), length))
        for target in targets:
            self.contents[target] = self.contents[source][:length]

    def close(self) -> None:
        self.closed = True

    def _append(self, row: Row) -> NDArray[np.float32]:
        assert self.model is not None
        assert 0 <= row.slot < self.slots
        held = self.contents[row.slot]
        assert 0 <= row.start <= len(held), f"starts at {row.start}, but the slot holds {len(held)}"
        assert isinstance(row.tokens, np.ndarray) and row.tokens.dtype == np.int64 and row.tokens.ndim == 1
        assert row.tokens.size >= 1 and row.tokens.min() >= 0 and row.tokens.max() < self.vocab
        assert row.start + row.tokens.size <= self.context, "beyond the context"
        assert 0 <= row.logits <= row.tokens.size
        visual = [cell.tobytes() for image in row.visual for cell in image.embeddings]
        assert int((row.tokens == IMAGE_TOKEN).sum()) == len(visual), "image-pad tokens do not match the images"
        queue = iter(visual)
        new: Content = tuple(next(queue) if token == IMAGE_TOKEN else token for token in row.tokens.tolist())
        content = held[: row.start] + new
        self.contents[row.slot] = content
        wanted = range(len(content) - row.logits, len(content))
        return np.array([self.model(content[: at + 1]) for at in wanted], np.float32).reshape(row.logits, self.vocab)

    def _check_open(self) -> None:
        if self.closed:
            raise EngineError("the backend is closed")


@dataclass
class WindowedStrictBackend(StrictBackend):
    """One whose slots forget as those do whose sliding-window layers hold only their window."""

    ring: Ring = field(default_factory=lambda: Ring(window=8, chunk=12, length=20))

    def __post_init__(self) -> None:
        super().__post_init__()
        self._intact = Intact(self.ring, self.slots)

    def keeps(self, slot: int, length: int) -> bool:
        return self._intact.keeps(slot, length)

    def copy(self, source: int, targets: Sequence[int], length: int) -> None:
        assert self.keeps(source, length), "copies what was overwritten"
        super().copy(source, targets, length)
        self._intact.copied(source, list(targets))

    def _append(self, row: Row) -> NDArray[np.float32]:
        assert self.keeps(row.slot, row.start), "goes on from what was overwritten"
        if row.start == 0:
            self._intact.restart(row.slot)
        self._intact.wrote(row.slot, row.start + row.tokens.size)
        return super()._append(row)
