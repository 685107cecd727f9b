"""From questions to token rows: several questions packed behind one image, and the targets of the auxiliary heads."""

from __future__ import annotations

import bisect
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from exaone_ros.sim.frame import LabelledFrame
from exaone_ros.sim.vocabulary import COLOURS, SHAPES
from exaone_ros.tasks import SYSTEM, Decide, Ground
from exaone_ros.tasks.ground import SCALE
from exaone_ros.training import tokenizer
from exaone_ros.training.model import TOKEN_PX
from exaone_ros.training.questions import KINDS, Question
from exaone_ros.training.truth import Truth

HEAD = f"<|system|>\n{SYSTEM}<|endofturn|>\n<|user|>\n<vision>"
TAIL = "</vision>\n"
TURN = "<|endofturn|>\n<|assistant|>\n<think>"
THINKING_ON = "\n"
THINKING_OFF = "\n\n</think>\n\n"
AFTER_THOUGHT = "\n</think>\n\n"
"""The chat template in pieces (see `tokenizer.CHAT_TEMPLATE`; a test holds both together): what comes before the image,
between image and question, after the question, and on or off the reasoning."""

LEAST_CELL_PX = 90
"""Pixels of an object in a 28 x 28 cell from which on the cell counts as the object's."""
ALL_KINDS = (*KINDS, "count_kind")
LEAST_ROOM = 24
MOST_CELLS = 16
"""Rows and columns of visual tokens that the auxiliary heads can tell apart."""
NO_NAME = -1


class Encoder:
    """Tokenizes questions as inference does: the text of users apart from the template."""

    def __init__(self) -> None:
        self._tokenizer: Any = tokenizer.build_tokenizer()
        self.vocabulary_size: int = self._tokenizer.get_vocab_size()
        self._encoded = lru_cache(maxsize=50_000)(self._encode)

    def _encode(self, text: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The id of each token, and the index of its first character."""
        encoded = self._tokenizer.encode(text, add_special_tokens=False)
        return tuple(encoded.ids), tuple(start for start, _ in encoded.offsets)

    def ids(self, text: str) -> tuple[int, ...]:
        return self._encoded(text)[0]

    def text(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))

    def last_token(self, text: str, end: int) -> int:
        """Index of the token of `text` in which its character `end` - 1 ends."""
        return bisect.bisect_left(self._encoded(text)[1], end) - 1

    @property
    def head(self) -> list[int]:
        return list(self.ids(HEAD))

    @property
    def tail(self) -> list[int]:
        return list(self.ids(TAIL))

    def prompt(self, question: Question) -> tuple[int, ...]:
        """From after the image to where the model goes on."""
        turn = TURN + (THINKING_ON if question.task.thinking else THINKING_OFF)
        return self.ids(question.task.prompt()) + self.ids(turn)

    def answer(self, question: Question) -> tuple[int, ...]:
        """What the model is to write, end of turn included."""
        thought = self.ids(question.reasoning + AFTER_THOUGHT) if question.task.thinking else ()
        return (
            thought + tuple(self._tokenizer.encode(question.answer, add_special_tokens=False).ids) + (tokenizer.EOS_ID,)
        )


@dataclass
class Batch:
    """Frames of one size with their packed questions; arrays are numpy until `to`.

    Attributes:
        images: uint8 [B, H, W, 3].
        tokens, offsets, segments: int64 [B, T], see `PackedModel.forward`.
        targets: int64 [B, T] the next token where it is to be learned, else -1.
        coordinates: bool [B, T] the target is a coordinate of a box.
        kinds: int64 [B, T] index into ALL_KINDS of the question of a target.
        first: bool [B, T] the target is the answer's first token that the grammar leaves open, see `pack_row`.
        cell_object: float32 [B, n] an object is on the cell.
        cell_colour, cell_shape: int64 [B, n], -1 where none, or none that the tabletop knows.
        cell_box: float32 [B, n, 4] 0..1 box of that object.
        cell_centre: float32 [B, n] the centre of a clear object's box is on the cell: one mark for each object.
        point: int64 [B, T] the cell of the thing whose name ends with this token of a prompt, -1 where none does.
        right: int64 [B, T] 1 where an option of a decision ends that is the answer, 0 where another one ends, else -1.
    """

    images: Any
    tokens: Any
    offsets: Any
    segments: Any
    targets: Any
    coordinates: Any
    kinds: Any
    first: Any
    cell_object: Any
    cell_colour: Any
    cell_shape: Any
    cell_box: Any
    cell_centre: Any
    point: Any
    right: Any

    def to(self, device: torch.device | str) -> Batch:
        """The same as tensors on a device."""
        return Batch(*(torch.as_tensor(np.ascontiguousarray(getattr(self, f.name))).to(device) for f in fields(self)))


def pack_row(
    encoder: Encoder, questions: Iterable[Question], length: int, grid: tuple[int, int] = (1, 1)
) -> tuple[NDArray[np.int64], ...]:
    """Pack questions into one row of `length` tokens until no more fit.

    A question that does not fit is skipped; three of them in a row, or too little room, end the row.

    Args:
        encoder: tokenizes.
        questions: until the row is full.
        length: of the row.
        grid: rows and columns of visual tokens of the frame, for `point`.

    Returns:
        tokens, offsets, segments, targets, coordinates, kinds, first, point, right: int64 [length] each.
    """
    row = np.zeros((9, length), np.int64)
    row[[2, 3, 7, 8]] = -1
    used, number, misses = 0, 1, 0
    first_number = tokenizer.first_number_id()
    for question in questions:
        prompt, answer = encoder.prompt(question), encoder.answer(question)
        size = len(prompt) + len(answer) - 1
        if used + size > length:
            misses += 1
            if misses == 3 or length - used < LEAST_ROOM:
                break
            continue
        place = slice(used, used + size)
        told = slice(used + len(prompt) - 1, used + size)
        row[0, place] = (prompt + answer)[:-1]
        row[1, place] = np.arange(size)
        row[2, place] = number
        row[3, told] = answer
        if isinstance(question.task, Ground):
            row[4, told] = [first_number <= token <= first_number + SCALE for token in answer]
        row[5, told] = ALL_KINDS.index(question.kind)
        row[6, told.start + (0 if isinstance(question.task, Ground) else min(1, len(answer) - 1))] = 1
        if isinstance(question.task, Decide):
            _mark_names(encoder, question, question.task, grid, row[7, place], row[8, place])
        used, number = used + size, number + 1
    return tuple(row)


def _mark_names(
    encoder: Encoder,
    question: Question,
    task: Decide,
    grid: tuple[int, int],
    point: NDArray[np.int64],
    right: NDArray[np.int64],
) -> None:
    """Write the targets of a decision's names into those of its tokens."""
    prompt, listed = task.prompt(), ", ".join(task.options)
    at = prompt.rindex(listed)  # the options stand behind the instruction
    choice = json.loads(question.answer)["choice"]
    where = dict(question.points)
    ends = []
    for option in task.options:
        ends.append((option, at + len(option)))
        at += len(option) + len(", ")
    for option, end in ends:
        right[encoder.last_token(prompt, end)] = option == choice
    ends += [
        (name, task.instruction.index(name) + len(name))
        for name in where
        if name not in task.options and name in task.instruction
    ]
    for name, end in ends:
        if name in where:
            x, y = where[name]
            rows, columns = grid
            cell = min(int(y * rows), rows - 1) * columns + min(int(x * columns), columns - 1)
            point[encoder.last_token(prompt, end)] = cell


def cell_targets(
    frame: LabelledFrame,
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """What the auxiliary heads are to say of each 28 x 28 px cell: object or not, colour, shape, box."""
    height, width = frame.instance.shape
    rows, columns = height // TOKEN_PX, width // TOKEN_PX
    cells = frame.instance.reshape(rows, TOKEN_PX, columns, TOKEN_PX).transpose(0, 2, 1, 3).reshape(rows * columns, -1)
    there = np.zeros(len(cells), np.float32)
    colour, shape = np.full(len(cells), -1, np.int64), np.full(len(cells), -1, np.int64)
    box = np.zeros((len(cells), 4), np.float32)
    if not frame.objects:
        return there, colour, shape, box
    counts = np.stack([(cells == i).sum(1) for i in range(len(frame.objects))], axis=1)
    owner = counts.argmax(1)
    for cell in np.flatnonzero(counts.max(1) >= LEAST_CELL_PX):
        thing = frame.objects[int(owner[cell])]
        there[cell], colour[cell], shape[cell] = 1, _index(COLOURS, thing.colour), _index(SHAPES, thing.shape)
        box[cell] = np.array(thing.box) / (width, height, width, height)
    return there, colour, shape, box


def centre_targets(frame: LabelledFrame) -> NDArray[np.float32]:
    """The cells [n] that hold the centre of a clear object's box; counting needs one mark for each object."""
    height, width = frame.instance.shape
    columns = width // TOKEN_PX
    marks = np.zeros(height // TOKEN_PX * columns, np.float32)
    for thing in Truth.of(frame).clear:
        x, y = (thing.box[0] + thing.box[2]) / 2, (thing.box[1] + thing.box[3]) / 2
        marks[min(int(y), height - 1) // TOKEN_PX * columns + min(int(x), width - 1) // TOKEN_PX] = 1
    return marks


def _index(names: Sequence[str], name: str) -> int:
    return names.index(name) if name in names else NO_NAME


def make_batch(
    encoder: Encoder, frames: Sequence[LabelledFrame], asked: Sequence[Iterable[Question]], length: int
) -> Batch:
    """Pack frames of one size with their questions."""
    height, width = frames[0].instance.shape
    grid = height // TOKEN_PX, width // TOKEN_PX
    rows = [pack_row(encoder, questions, length, grid) for questions in asked]
    tokens, offsets, segments, targets, coordinates, kinds, first, point, right = (
        np.stack(column) for column in zip(*rows, strict=True)
    )
    there, colour, shape, box = (
        np.stack(column) for column in zip(*(cell_targets(frame) for frame in frames), strict=True)
    )
    centre = np.stack([centre_targets(frame) for frame in frames])
    images = np.stack([frame.image for frame in frames])
    return Batch(
        images, tokens, offsets, segments, targets, coordinates > 0, kinds, first > 0,
        there, colour, shape, box, centre, point, right,
    )  # fmt: skip
