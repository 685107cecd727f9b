"""Packed questions train exactly what one question at a time computes, and both are the Hugging Face model."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from exaone_ros.sim.frame import LabelledFrame
from exaone_ros.tasks import SYSTEM, Count, Decide, Ground
from exaone_ros.training import tokenizer
from exaone_ros.training.flat_renderer import FlatRenderer
from exaone_ros.training.forward import PackedModel
from exaone_ros.training.model import TOKEN_PX, build_config, build_model
from exaone_ros.training.other_words import FreeQuestioner
from exaone_ros.training.packing import ALL_KINDS, Encoder, cell_targets, centre_targets, make_batch, pack_row
from exaone_ros.training.questions import Question, Questioner
from exaone_ros.training.truth import Truth

from .tiny import TINY

QUESTIONS = (
    Question("name", Ground(classes=("red cube",)), Ground.answer([((10, 20, 300, 400), "red cube")])),
    Question("count", Count(language="ko"), Count.answer(3)),
    Question("count_kind", Count(label="mugs", thinking=True), Count.answer(2), "I see red mug, blue mug."),
    Question("way", Decide(instruction="Is it?", options=("yes", "no")), Decide.answer("no", "it is not")),
)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder()


@pytest.fixture(scope="module")
def model() -> Any:
    return build_model(build_config(TINY, Encoder().vocabulary_size), seed=1).eval()


def hugging_face_logits(model: Any, image: np.ndarray, ids: list[int]) -> torch.Tensor:
    """Logits [n, vocabulary] of the reference implementation, patches cut as its image processor does."""
    height, width, _ = image.shape
    pixels = (torch.from_numpy(image).float() / 255 - torch.tensor(tokenizer.IMAGE_MEAN)) / torch.tensor(
        tokenizer.IMAGE_STD
    )
    rows, columns = height // 14, width // 14
    patches = pixels.permute(2, 0, 1)[None].repeat(2, 1, 1, 1).reshape(1, 2, 3, rows // 2, 2, 14, columns // 2, 2, 14)
    patches = patches.permute(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(rows * columns, -1)
    tokens = torch.tensor([ids])
    kind = (tokens == tokenizer.IMAGE_ID).int()
    grid = torch.tensor([[1, rows, columns]])
    return model(input_ids=tokens, pixel_values=patches, image_grid_thw=grid, mm_token_type_ids=kind).logits[0]


@pytest.mark.parametrize(("height", "width"), [(56, 84), (112, 112), (140, 168)])
def test_packed_logits_are_those_of_single_questions(model: Any, encoder: Encoder, height: int, width: int) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
    packed = PackedModel(model, encoder.head, encoder.tail)
    tokens, offsets, segments, *_ = (torch.from_numpy(row)[None] for row in pack_row(encoder, QUESTIONS, 160))
    with torch.no_grad():
        hidden, _, _ = packed(torch.from_numpy(image)[None], tokens, offsets, segments)
        logits = model.lm_head(hidden)[0]
        for number, question in enumerate(QUESTIONS, start=1):
            text = [*encoder.prompt(question), *encoder.answer(question)[:-1]]
            visual = [tokenizer.IMAGE_ID] * (height // TOKEN_PX * (width // TOKEN_PX))
            alone = hugging_face_logits(model, image, [*encoder.head, *visual, *encoder.tail, *text])
            together = logits[segments[0] == number]
            assert together.shape[0] == len(text)
            torch.testing.assert_close(together, alone[-len(text) :], rtol=1e-4, atol=1e-4)


def test_one_question_does_not_see_another(model: Any, encoder: Encoder) -> None:
    image = torch.zeros(1, 56, 84, 3, dtype=torch.uint8)
    packed = PackedModel(model, encoder.head, encoder.tail)
    outputs = []
    for first in QUESTIONS[:2]:
        rows = [torch.from_numpy(row)[None] for row in pack_row(encoder, (first, QUESTIONS[3]), 120)]
        with torch.no_grad():
            hidden, _, _ = packed(image, *rows[:3])
        outputs.append(hidden[0][rows[2][0] == 2])
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-4, atol=1e-4)


def test_prompts_are_what_the_chat_template_renders(encoder: Encoder, tmp_path: Path) -> None:
    tokenizer.write_processor(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    for question in QUESTIONS:
        messages = [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question.task.prompt()}]},
        ]
        text = loaded.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, enable_thinking=question.task.thinking
        )
        ours = [*encoder.head, tokenizer.IMAGE_ID, *encoder.tail, *encoder.prompt(question)]
        assert loaded(text, add_special_tokens=False)["input_ids"] == ours


def test_targets_are_the_answers(encoder: Encoder) -> None:
    _, _, segments, targets, coordinates, kinds, first, _, _ = pack_row(encoder, QUESTIONS, 160)
    for number, question in enumerate(QUESTIONS, start=1):
        told = (segments == number) & (targets >= 0)
        assert tuple(targets[told]) == encoder.answer(question)
        assert set(kinds[told]) == {ALL_KINDS.index(question.kind)}
        assert first[told].sum() == 1
    assert [encoder.text([token]) for token in targets[coordinates > 0]] == ["10", "20", "300", "400"]
    assert (
        encoder.text(encoder.answer(QUESTIONS[2])) == 'I see red mug, blue mug.\n</think>\n\n{"count":2}<|endofturn|>'
    )


def test_what_does_not_fit_is_left_out(encoder: Encoder) -> None:
    _, _, segments, targets, *_ = pack_row(encoder, itertools.cycle(QUESTIONS), 64)
    assert segments.max() >= 2
    assert encoder.text(targets[targets >= 0]).endswith("<|endofturn|>")


def test_cells_belong_to_the_object_that_covers_most_of_them(flat_frames: list[LabelledFrame]) -> None:
    for frame in flat_frames:
        there, colour, shape, box = cell_targets(frame)
        assert there.shape == (9 * 12,)
        for cell in np.flatnonzero(there):
            row, column = divmod(int(cell), 12)
            part = frame.instance[28 * row : 28 * row + 28, 28 * column : 28 * column + 28]
            numbers, counts = np.unique(part[part >= 0], return_counts=True)
            thing = frame.objects[int(numbers[counts.argmax()])]
            assert np.allclose(box[cell] * (336, 252, 336, 252), thing.box, atol=1e-3)
            assert colour[cell] >= 0
            assert shape[cell] >= 0
        assert (there == 0).any()


def test_each_clear_object_has_a_mark_on_the_cell_of_its_centre(flat_frames: list[LabelledFrame]) -> None:
    total = 0
    for frame in flat_frames:
        marks = centre_targets(frame).reshape(9, 12)
        clear = Truth.of(frame).clear
        total += len(clear)
        for thing in clear:
            x1, y1, x2, y2 = thing.box
            assert marks[int((y1 + y2) / 2 // 28), int((x1 + x2) / 2 // 28)] == 1
        assert marks.sum() <= len(clear)  # two objects may share a cell
    assert total > 5


def test_a_batch_holds_frames_of_one_size(encoder: Encoder) -> None:
    frames = [FlatRenderer(112, 84).render(seed) for seed in range(3)]
    rng = np.random.default_rng(0)
    batch = make_batch(encoder, frames, [Questioner(Truth.of(f), rng).draw() for f in frames], 96).to("cpu")
    assert batch.images.shape == (3, 84, 112, 3)
    assert batch.tokens.shape == batch.targets.shape == (3, 96)
    assert batch.cell_object.shape == batch.cell_centre.shape == (3, 12)
    assert (
        json.loads(encoder.text([t for t in batch.targets[0].tolist() if t >= 0]).split("<|endofturn|>")[0]) is not None
    )


def test_names_in_a_decision_point_at_what_they_mean(encoder: Encoder, flat_frames: list[LabelledFrame]) -> None:
    pointed = right = spelled = 0
    for frame in flat_frames:
        height, width = frame.instance.shape
        rows, columns = height // 28, width // 28
        asker = FreeQuestioner(Truth.of(frame), np.random.default_rng(5), thinking=False)
        asked = [q for kind in ("side", "pick", "pick_relation") for _ in range(60) if (q := asker.ask(kind))]
        for question in asked:
            assert isinstance(question.task, Decide)
            tokens, _, _, targets, *_, point, right_at = pack_row(encoder, [question], 300, (rows, columns))
            prompt = encoder.ids(question.task.prompt())
            choice = json.loads(question.answer)["choice"]
            ends = [encoder.text(prompt[: at + 1]) for at in np.flatnonzero(right_at >= 0)]
            assert len(ends) == len(question.task.options)
            for text, option, said in zip(ends, question.task.options, right_at[right_at >= 0], strict=True):
                assert text.endswith(option) and said == (option == choice)
            right += len(ends)
            assert not ((point >= 0) & (targets >= 0)).any()
            assert (point >= 0).sum() == len(question.points)
            for at in np.flatnonzero(point >= 0):
                text = encoder.text(tokens[: at + 1])
                x, y = max((len(name), place) for name, place in question.points if text.endswith(name))[1]
                assert divmod(int(point[at]), columns) == (int(y * rows), int(x * columns))
                pointed += 1
            spelled += any(name != name.lower() for name, _ in question.points)
    assert pointed > 100 and right > 200 and spelled > 0


def test_a_prompt_is_tokenized_once_for_its_tokens_and_for_where_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, asked = Encoder(), []
    encode = encoder._tokenizer.encode

    class Counting:
        def encode(self, text: str, **options: Any) -> Any:
            asked.append(text)
            return encode(text, **options)

    monkeypatch.setattr(encoder, "_tokenizer", Counting())
    pack_row(encoder, [QUESTIONS[3]], 300)
    prompt = QUESTIONS[3].task.prompt()
    assert asked.count(prompt) == 1
    assert encoder.ids(prompt) == tuple(encode(prompt, add_special_tokens=False).ids)
    offsets = encode(prompt, add_special_tokens=False).offsets
    assert all(encoder.last_token(prompt, end) == at for at, (start, end) in enumerate(offsets) if start < end)
