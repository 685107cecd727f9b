"""Prompt heads: the system prompt and the pictures, run through the decoder once for all questions on them.

What stands before the first picture is the same in every prompt and is run once for ever: every slot that has held a
head begins with it, so it stays where it is or is copied from such a slot. A head that nobody waits for is kept until
its slot is needed (least recently used first), so that later questions on the same pictures find it. Kept heads and
encoded pictures are limited in number and in memory.
"""

from __future__ import annotations

import itertools
import logging
from collections import OrderedDict, deque
from collections.abc import Hashable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from exaone_ros.engine.backend import Backend, Row, VisualTokens, keeps, named_failures
from exaone_ros.engine.frame import Prompts
from exaone_ros.engine.request import Picture
from exaone_ros.engine.sequence import Prefix
from exaone_ros.engine.slots import SlotPool
from exaone_ros.engine.timings import Meter
from exaone_ros.errors import ExaoneError, PromptTooLong

_log = logging.getLogger(__name__)


class PromptHead:
    """One prompt head, ready or on its way there. Made and changed by `PromptHeads` only.

    Attributes:
        key: of the pictures that it shows.
        unseen: those of them that are not encoded yet; the pixels of the others are not held on to.
        visual: the visual tokens of the others; none where it is kept for later, as its slot holds what they became.
        slot: where it lies; None before it was begun.
        users: how many wait for it or hold it; while there is one, it stays.
        used: when it was used last, in uses of heads and pictures.
    """

    def __init__(self, pictures: tuple[Picture, ...]) -> None:
        self.key: tuple[Hashable, ...] = tuple(picture.key for picture in pictures)
        self.unseen = deque(pictures)
        self.visual: list[VisualTokens] = []
        self.slot: int | None = None
        self.users = self.used = 0
        self.tokens: NDArray[np.int64] = np.zeros(0, np.int64)
        self.filled = 0

    @property
    def encoded(self) -> bool:
        """All its pictures are visual tokens."""
        return not self.unseen

    @property
    def ready(self) -> bool:
        """Questions can start from it."""
        return self.slot is not None and 0 < self.tokens.size == self.filled

    @property
    def prefix(self) -> Prefix:
        """Where questions start from; only when `ready`."""
        assert self.ready and self.slot is not None
        return Prefix(self.slot, self.filled)


class PromptHeads:
    """All prompt heads of an engine. Not thread-safe: belongs to whoever drives the backend.

    Args:
        backend: encodes and runs.
        slots: where heads and questions live.
        prompts: the checkpoint's chat template.
        image_token: id that stands for a visual token in a prompt.
        system: text of the system turn.
        kept: heads kept at most when nobody uses them.
        pictures_kept: encoded pictures kept at most, for questions that join them anew (several cameras, video).
        bytes_kept: memory that kept heads and encoded pictures may take together; None = no such limit.
    """

    def __init__(
        self,
        backend: Backend,
        slots: SlotPool,
        prompts: Prompts,
        image_token: int,
        system: str,
        *,
        kept: int,
        pictures_kept: int,
        bytes_kept: int | None = None,
    ) -> None:
        self._backend, self._slots = backend, slots
        self._prompts, self._image_token, self._system = prompts, image_token, system
        self._kept, self._pictures_kept = kept, pictures_kept
        self._heads: OrderedDict[tuple[Hashable, ...], PromptHead] = OrderedDict()
        self._encoded: OrderedDict[Hashable, VisualTokens] = OrderedDict()
        self._picture_used: dict[Hashable, int] = {}
        self._uses = itertools.count(1)
        self._bytes_kept = bytes_kept
        self.kept_bytes = 0
        """Memory of the heads that are kept for later and of the encoded pictures. Any thread may read it."""
        self._opening: NDArray[np.int64] | None = None
        self._with_opening: set[int] = set()

    @property
    def held_slots(self) -> int:
        """Slots of heads that somebody uses."""
        return sum(head.slot is not None and head.users > 0 for head in self._heads.values())

    def use(self, pictures: tuple[Picture, ...]) -> PromptHead:
        """The head of these pictures, begun or not; `release` it when it is not needed any more."""
        head = self._heads.setdefault(tuple(picture.key for picture in pictures), PromptHead(pictures))
        self._heads.move_to_end(head.key)
        head.users += 1
        self._count()
        return head

    def release(self, head: PromptHead, *, keep: bool = True) -> None:
        """Count one user less; `keep`: later questions may come."""
        head.users -= 1
        if head.users:
            return
        if not keep or not head.ready:
            self.drop(head)
        else:
            head.visual.clear()
            head.used = next(self._uses)
        while sum(head.users == 0 for head in self._heads.values()) > self._kept:
            self.evict()
        self._fit()

    def drop(self, head: PromptHead) -> None:
        """Forget a head and free its slot; who still uses it finds it neither ready nor begun."""
        if self._heads.get(head.key) is head:
            del self._heads[head.key]
        self._give_back(head)
        self._count()

    def evict(self) -> bool:
        """Free the slot of the least recently used head that nobody uses; False: there is none."""
        for head in self._heads.values():
            if head.users == 0:
                self.drop(head)
                return True
        return False

    def encode(self, head: PromptHead, meter: Meter) -> None:
        """Encode the next of its pictures.

        Raises:
            ImageError: the picture cannot be used.
            PromptTooLong: the head, now complete, does not fit into the context.
            EngineError: the backend failed.
        """
        picture = head.unseen[0]
        found = self._encoded.get(picture.key)
        if found is None:
            with named_failures(self._backend, "encode"), meter.measure("encode_s"):
                found = self._backend.encode(picture.image)
            meter.add("preprocess_s", found.preprocess_s)
            meter.add("encode_s", -found.preprocess_s)
            self._encoded[picture.key] = found
            if len(self._encoded) > self._pictures_kept:
                self._forget_picture()
        else:
            self._encoded.move_to_end(picture.key)
        self._picture_used[picture.key] = next(self._uses)
        self._fit()
        head.visual.append(found)
        head.unseen.popleft()
        if head.encoded:
            head.tokens = self._prompts.prefix([visual.count for visual in head.visual], self._system)
            self._check_length(head)

    def begin(self, head: PromptHead, slot: int, meter: Meter) -> None:
        """Give an encoded head the slot to lie in, with what stands before the first picture if it is anywhere.

        Raises:
            EngineError: the backend failed.
        """
        assert head.encoded and head.slot is None
        head.slot = slot
        opening = self._shared_opening(head.tokens)
        # A slot that was longer than its sliding windows has lost its beginning.
        self._with_opening -= {held for held in self._with_opening if not keeps(self._backend, held, opening)}
        if opening and slot not in self._with_opening and self._with_opening:
            with named_failures(self._backend, "copy"), meter.measure("prefix_s"):
                self._backend.copy(min(self._with_opening), [slot], opening)
            self._with_opening.add(slot)
        head.filled = opening if slot in self._with_opening else 0

    def prefill(self, head: PromptHead, most_tokens: int, meter: Meter) -> None:
        """Run at most so many more of its tokens; where an image cannot be cut, as many as it has.

        Raises:
            EngineError: the backend failed; the head is of no use any more.
        """
        assert head.slot is not None
        tokens, visual = self._part(head, most_tokens)
        self.distrust(head.slot)
        with named_failures(self._backend, "run"), meter.measure("prefix_s"):
            self._backend.run([Row(head.slot, head.filled, tokens, visual, logits=0)])
        head.filled += tokens.size
        if head.ready:
            self._with_opening.add(head.slot)

    def clear(self, slot: int) -> None:
        """A question has left this slot: nothing in it is needed, and a backend need not carry it along."""
        self.distrust(slot)
        other = 1 if slot == 0 else 0
        try:
            with named_failures(self._backend, "copy"):
                self._backend.copy(other, [slot], 0)
        except ExaoneError as error:  # the next question overwrites it anyway
            _log.warning("slot %d could not be cleared: %s", slot, error)

    def distrust(self, slot: int) -> None:
        """Nothing is known any more of what a slot holds."""
        self._with_opening.discard(slot)

    def _shared_opening(self, tokens: NDArray[np.int64]) -> int:
        """How many tokens before the first picture are the same in these and all prompts before them."""
        opening = tokens[: int(np.argmax(tokens == self._image_token))]
        if self._opening is not None:
            length = min(self._opening.size, opening.size)
            different = np.flatnonzero(self._opening[:length] != opening[:length])
            opening = opening[: int(different[0]) if different.size else length]
        self._opening = opening
        return int(opening.size)

    def _part(self, head: PromptHead, most_tokens: int) -> tuple[NDArray[np.int64], tuple[VisualTokens, ...]]:
        """The next tokens to run, with the visual tokens that belong to them."""
        end = min(head.tokens.size, head.filled + most_tokens)
        visual: list[VisualTokens] = []
        pads = np.flatnonzero(head.tokens == self._image_token)
        first = 0
        for image in head.visual:
            at = pads[first : first + image.count]
            first += image.count
            if at[0] < end <= at[-1] and not isinstance(image.embeddings, np.ndarray):
                end = int(at[-1]) + 1
            low, high = np.searchsorted(at, (head.filled, end))
            if high > low:
                visual.append(_cut(image, int(low), int(high)))
        return head.tokens[head.filled : end], tuple(visual)

    def _check_length(self, head: PromptHead) -> None:
        context, seen = self._backend.limits.context, sum(visual.count for visual in head.visual)
        if head.tokens.size > context:
            what = "image" if len(head.visual) == 1 else f"{len(head.visual)} images"
            raise PromptTooLong(
                f"system prompt and {what} take {head.tokens.size} tokens ({seen} of them visual); the context is "
                f"{context}: open the engine with a larger one, or with less visual_tokens"
            )

    def _fit(self) -> None:
        """Forget what was used least recently, heads and pictures alike, until the rest fits into its memory."""
        self._count()
        while self._bytes_kept is not None and self.kept_bytes > self._bytes_kept:
            unused = next((head for head in self._heads.values() if head.users == 0), None)
            picture = next(iter(self._encoded), None)
            if unused is not None and (picture is None or unused.used < self._picture_used[picture]):
                self.drop(unused)
            else:
                self._forget_picture()

    def _forget_picture(self) -> None:
        """Give up the least recently used of the encoded pictures; heads on their way keep what they have of it."""
        key, _ = self._encoded.popitem(last=False)
        del self._picture_used[key]
        self._count()

    def _count(self) -> None:
        per_token = self._backend.limits.token_bytes
        heads = sum(head.filled for head in self._heads.values() if head.users == 0)
        self.kept_bytes = heads * per_token + sum(visual.nbytes for visual in self._encoded.values())

    def _give_back(self, head: PromptHead) -> None:
        if head.slot is not None:
            self._slots.release(head.slot)
        head.slot, head.filled = None, 0


def _cut(image: VisualTokens, low: int, high: int) -> VisualTokens:
    """Some of the visual tokens of an image, in order."""
    if (low, high) == (0, image.count):
        return image
    assert isinstance(image.embeddings, np.ndarray)
    return replace(image, embeddings=image.embeddings[low:high], grid=(1, high - low))
