"""Looks at validation frames while a run goes on: the same frames and questions each time, and when to give up.

A look costs a few forward passes: it takes no gradient, draws nothing from the run's random numbers, and its time does
not count against the run's minutes, so that a run with looks takes the same steps as one without.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from exaone_ros.sim.frame import LabelledFrame
from exaone_ros.training.data import DataOptions
from exaone_ros.training.flat_renderer import FlatOptions, FlatRenderer
from exaone_ros.training.forward import PackedModel
from exaone_ros.training.losses import token_loss
from exaone_ros.training.own_frames import PictureReader, cut
from exaone_ros.training.own_pictures import OwnPicture, read_coco
from exaone_ros.training.own_questions import OwnQuestioner
from exaone_ros.training.packing import ALL_KINDS, Batch, Encoder, make_batch
from exaone_ros.training.pool import VALIDATION_POOL, FramePool
from exaone_ros.training.questions import CHOICES, COUNTS, Questioner
from exaone_ros.training.splits import HELD_OUT_PAIRS, LOOKED_AT_FROM, frame_seed
from exaone_ros.training.truth import Truth

BATCHES = 4
LEAST_GAIN = 0.003
"""Share of the loss that must be gained before a look counts as one that brought something."""


class Validation:
    """A fixed set of validation frames with their questions.

    Half of the frames come from the pool's folder of validation frames where there are any of the size, the others
    from the flat renderer; all of them are of validation seeds that nothing else is measured on
    (`splits.LOOKED_AT_FROM`). They do not depend on the run's seed: runs can be compared by them.

    Args:
        data: of the run; its sizes, batch and pool are used.
        batches: how many; of the first different sizes of the run, over and over.

    Where the run learns from pictures of one's own, a quarter of each batch are held-out ones of those, in parts.
    """

    def __init__(self, data: DataOptions, batches: int = BATCHES) -> None:
        encoder = Encoder()
        folder = None if data.pool is None else data.pool / VALIDATION_POOL
        pool = FramePool(folder).frames if folder is not None and folder.is_dir() else {}
        sizes = list(dict.fromkeys(data.sizes))
        used = dict.fromkeys(sizes, 0)
        own = None if data.own is None else read_coco(data.own, data.own_images)
        quarter = data.batch // 4 if own is not None and own.held_out else 0
        self._reader = PictureReader()
        self.batches: list[Batch] = []
        for number in range(batches):
            size = sizes[number % len(sizes)]
            half = pool.get(size, [])[used[size] : used[size] + data.batch // 2]
            used[size] += len(half)
            mine = (
                [self._part(own.held_out, number, place, size) for place in range(quarter)] if own is not None else []
            )
            flat = [self._flat(number * data.batch + i, size) for i in range(data.batch - len(half) - len(mine))]
            questioners: list[Callable[..., Questioner]] = [Questioner] * (len(half) + len(flat))
            if own is not None:
                questioners += [partial(OwnQuestioner, own.names)] * len(mine)
            self.batches.append(self._batch(encoder, [*half, *flat, *mine], questioners, number, data.length))

    def _part(self, pictures: Sequence[OwnPicture], number: int, place: int, size: tuple[int, int]) -> LabelledFrame:
        rng = np.random.default_rng([10, number, place])
        return cut(rng, self._reader.frame(pictures[int(rng.integers(len(pictures)))]), size)

    @staticmethod
    def _flat(index: int, size: tuple[int, int]) -> LabelledFrame:
        height, width = size
        seed = frame_seed("validation", LOOKED_AT_FROM + index)
        return FlatRenderer(width, height).render(seed, FlatOptions(exclude_pairs=HELD_OUT_PAIRS))

    @staticmethod
    def _batch(
        encoder: Encoder,
        frames: Sequence[LabelledFrame],
        questioners: Sequence[Callable[..., Questioner]],
        number: int,
        length: int,
    ) -> Batch:
        asked = []
        for place, (frame, questioner) in enumerate(zip(frames, questioners, strict=True)):
            rng = np.random.default_rng([9, number, place])
            asked.append(questioner(Truth.of(frame), rng, thinking=False).draw())
        return make_batch(encoder, frames, asked, length)

    @torch.no_grad()
    def measure(
        self,
        model: PackedModel,
        device: torch.device,
        precision: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> dict[str, float]:
        """Look at all frames.

        Args:
            model: what is looked at; stays as it is.
            device: where it is.
            precision: makes what is entered around each forward pass, for example autocast.

        Returns:
            "loss" (of a token: what training minimises, without the auxiliary heads), "count" (share of counts that
            are right) and "choice" (share of decisions whose first word is right), both as the model would go on
            behind the perfect beginning of the answer; NaN where nothing of the kind is asked.
        """
        total, tokens = 0.0, 0
        hits: dict[str, list[int]] = {"count": [0, 0], "choice": [0, 0]}
        for host in self.batches:
            batch = host.to(device)
            with precision():
                hidden, _, _ = model(batch.images, batch.tokens, batch.offsets, batch.segments)
                loss, _ = token_loss(model, hidden, batch)
                said = model.model.lm_head(hidden[batch.first]).float().argmax(-1)
            number = int((batch.targets >= 0).sum())
            total, tokens = total + float(loss) * number, tokens + number
            right, kinds = (said == batch.targets[batch.first]).cpu(), batch.kinds[batch.first].cpu()
            for name, of_kind in (("count", COUNTS), ("choice", CHOICES)):
                asked = torch.tensor([ALL_KINDS[int(kind)] in of_kind for kind in kinds], dtype=torch.bool)
                hits[name][0] += int(right[asked].sum())
                hits[name][1] += int(asked.sum())
        shares = {name: right / asked if asked else math.nan for name, (right, asked) in hits.items()}
        return {"loss": total / max(1, tokens)} | shares


@dataclass(frozen=True)
class Progress:
    """What the looks of a run have brought so far.

    Attributes:
        looks: how many there were.
        best: least loss.
        best_step: of that look.
        reference: loss that the next look must undercut by LEAST_GAIN to count as a gain.
        without: looks in a row that brought nothing.
        last_step: of the last look.
    """

    looks: int = 0
    best: float = math.inf
    best_step: int = 0
    reference: float = math.inf
    without: int = 0
    last_step: int = 0

    def after(self, loss: float, step: int) -> Progress:
        """The same after one more look."""
        gained = not math.isfinite(self.reference) or loss < (1 - LEAST_GAIN) * self.reference
        best = (loss, step) if loss < self.best else (self.best, self.best_step)
        return replace(
            self, looks=self.looks + 1, best=best[0], best_step=best[1],
            reference=loss if gained else self.reference, without=0 if gained else self.without + 1, last_step=step,
        )  # fmt: skip

    def as_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return asdict(self)


def write_best(path: Path, model: dict[str, Any], sizes: dict[str, Any], step: int, loss: float) -> None:
    """Write the weights of the best look; a reader sees the old ones or the new ones, never half of them."""
    partial = path.with_suffix(".partial")
    torch.save({"model": model, "sizes": sizes, "step": step, "loss": loss}, partial)
    partial.replace(path)
