"""What training minimises: next tokens, soft coordinates, and the auxiliary heads."""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from exaone_ros.tasks.ground import SCALE
from exaone_ros.training.forward import AuxiliaryHeads, Heard, PackedModel
from exaone_ros.training.model import TOKEN_PX
from exaone_ros.training.packing import ALL_KINDS, NO_NAME, Batch
from exaone_ros.training.questions import CHOICES, COUNTS
from exaone_ros.training.tokenizer import first_number_id

COORDINATE_SIGMA = 6.0
"""Width of a coordinate's soft target, in thousandths of the image: a near miss costs little."""
Z_LOSS = 1e-4
MARK_WEIGHT = 2.0
POINT_WEIGHT = 0.3
RIGHT_WEIGHT = 1.0
JUDGED = tuple(ALL_KINDS.index(kind) for kind in ALL_KINDS if kind in COUNTS | CHOICES)
"""Kinds of questions whose answer hangs on one word or two among dozens of coordinates."""


@lru_cache(maxsize=4)
def soft_coordinates(sigma: float, device: torch.device) -> Tensor:
    """Soft targets [1001, 1001]: row v spreads the probability of the number v over its neighbours."""
    numbers = torch.arange(SCALE + 1, dtype=torch.float32, device=device)
    bell = torch.exp(-0.5 * ((numbers[:, None] - numbers) / sigma) ** 2)
    return bell / bell.sum(1, keepdim=True)


def token_loss(
    model: PackedModel, hidden: Tensor, batch: Batch, sigma: float = COORDINATE_SIGMA, judged: float = 1.0
) -> tuple[Tensor, dict[str, Tensor]]:
    """Cross entropy of the targets, coordinates with soft targets of width `sigma` (0 = hard).

    Answers that are counts or choices weigh `judged` times what the others do.

    Returns:
        The loss of a token, and its parts: scalars without gradient on the model's device. They stay there, as reading
        one makes the host wait for a GPU. "word" is with those weights, "word_plain" without.
    """
    told = batch.targets >= 0
    logits = model.model.lm_head(hidden[told]).float()
    targets, coordinate = batch.targets[told], batch.coordinates[told]
    log_normaliser = logits.logsumexp(-1)
    words = (log_normaliser - logits.gather(1, targets[:, None])[:, 0])[~coordinate]
    plain = words.detach().sum()
    if judged != 1:
        kinds = batch.kinds[told][~coordinate]
        words = words * torch.where(torch.isin(kinds, torch.tensor(JUDGED, device=kinds.device)), judged, 1.0)
    words = words.sum()
    chosen, first = logits[coordinate], first_number_id()
    if sigma > 0:
        target = soft_coordinates(sigma, logits.device)[targets[coordinate] - first]
        expected = (target * chosen[:, first : first + SCALE + 1]).sum(1)
    else:
        expected = chosen.gather(1, targets[coordinate][:, None])[:, 0]
    boxes = (log_normaliser[coordinate] - expected).sum()
    loss = (words + boxes) / max(1, len(targets)) + Z_LOSS * log_normaliser.square().mean()
    number = (~coordinate).sum().clamp(min=1)
    return loss, {
        "word": words.detach() / number,
        "word_plain": plain / number,
        "box": boxes.detach() / coordinate.sum().clamp(min=1),
    }


def auxiliary_loss(heads: AuxiliaryHeads, cell: Tensor, heard: Heard, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss of the heads that are dropped after training, and its parts as of `token_loss`."""
    cell, place = cell.float(), heard.places.float()
    _, height, width, _ = batch.images.shape
    rows, columns = height // TOKEN_PX, width // TOKEN_PX
    there = batch.cell_object > 0
    seen = F.binary_cross_entropy_with_logits(cell[..., 0], batch.cell_object)
    names = cell[..., 1:].split([heads.colours, heads.shapes, 4], -1)
    number = there.sum().clamp(min=1)
    named = F.cross_entropy(names[0][there], batch.cell_colour[there], ignore_index=NO_NAME, reduction="sum") / number
    named = (
        named
        + F.cross_entropy(names[1][there], batch.cell_shape[there], ignore_index=NO_NAME, reduction="sum") / number
    )
    index = torch.arange(rows * columns, device=cell.device)
    row, column = index // columns, index % columns
    centre = torch.stack([(column + 0.5) / columns, (row + 0.5) / rows] * 2, -1)
    offset = ((batch.cell_box - centre) * 4)[there]
    near = F.smooth_l1_loss(names[2][there], offset, beta=0.05, reduction="sum") / (number * 4)
    whole = F.smooth_l1_loss(place[..., :4][there], (batch.cell_box * 4 - 2)[there], beta=0.05, reduction="sum") / (
        number * 4
    )
    guesses = place[..., 4:-1].split(heads.most_cells, -1)
    count = place.shape[0]
    where = sum(
        F.cross_entropy(guess.reshape(-1, heads.most_cells), truth.repeat(count))
        for guess, truth in zip(guesses, (row, column), strict=True)
    )
    marked = F.binary_cross_entropy_with_logits(place[..., -1], batch.cell_centre)
    loss = 0.5 * seen + 1.5 * named + 4 * near + 4 * whole + 0.3 * where + MARK_WEIGHT * marked
    pointed, judged = batch.point >= 0, batch.right >= 0
    cells = batch.point[pointed]
    said = heads.point(heard.early[pointed]).float().split(heads.most_cells, -1)
    missed = F.cross_entropy(said[0], cells // columns, reduction="sum") + F.cross_entropy(
        said[1], cells % columns, reduction="sum"
    )
    point = missed / (2 * pointed.sum().clamp(min=1))
    answer = heads.right(heard.late[judged]).float()[..., 0]
    right = F.binary_cross_entropy_with_logits(answer, batch.right[judged].float(), reduction="sum")
    right = right / judged.sum().clamp(min=1)
    loss = loss + POINT_WEIGHT * point + RIGHT_WEIGHT * right
    return loss, {
        "cell": seen.detach(),
        "name": named.detach(),
        "near": near.detach(),
        "whole": whole.detach(),
        "mark": marked.detach(),
        "point": point.detach(),
        "right": right.detach(),
    }
