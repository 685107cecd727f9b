"""The engine on real backends, with random weights of the bundled checkpoint's size: the same answers on each."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime")

from model.tiny_checkpoint import random_weights, write_safetensors

from exaone_ros.engine.engine import Engine
from exaone_ros.engine.sampling import GENERAL
from exaone_ros.engine.sequence import Outcome
from exaone_ros.engine.token_table import TokenTable
from exaone_ros.errors import PromptTooLong
from exaone_ros.model.chat import PromptEncoder
from exaone_ros.model.config import ModelConfig
from exaone_ros.tasks import SYSTEM, Ask, Count, Decide, Ground, Task

TASKS: list[Task] = [
    Ground(name="named", classes=("red cube", "파란 공", 'the "mug"')),
    Count(name="all"),
    Decide(name="way", instruction="Is the way clear?", options=("clear", "blocked", "person"), reason=False),
    Decide(name="why", instruction="Stop?", options=("yes", "no"), thinking=True, thinking_budget=9),
    Ask(name="what", question="이것은 무엇이야?", answer_tokens=24),
]


@pytest.fixture(scope="module")
def random_checkpoint(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("random")
    for path in model_dir.iterdir():
        if path.suffix in (".json", ".jinja"):
            shutil.copy(path, directory)
    weights = random_weights(json.loads((directory / "config.json").read_text()))
    write_safetensors(directory / "model.safetensors", weights)
    return directory


@pytest.fixture(scope="module")
def engine(random_checkpoint: Path) -> Iterator[Engine]:
    with Engine.open(random_checkpoint, threads=1) as engine:
        yield engine


def picture(seed: int, height: int = 240, width: int = 320) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def texts(engine: Engine, seed: int, tasks: list[Task], **kwargs: object) -> list[tuple[str, str, Outcome]]:
    answers = engine.answer(picture(seed), tasks, **kwargs).answers  # type: ignore[arg-type]
    assert all(a.error is None for a in answers)
    return [(a.text, a.reasoning, a.outcome) for a in answers]


@pytest.mark.parametrize("seed", range(3))
def test_a_batch_answers_as_one_by_one(engine: Engine, seed: int) -> None:
    for sampling in (GENERAL, None):
        kwargs = {"sampling": sampling} if sampling else {}
        together = texts(engine, seed, TASKS, **kwargs)
        assert together == [texts(engine, seed, [task], **kwargs)[0] for task in TASKS]


def test_turns_on_few_slots_answer_as_all_at_once(engine: Engine, random_checkpoint: Path) -> None:
    with Engine.open(random_checkpoint, slots=3, threads=1) as narrow:
        assert texts(narrow, 1, TASKS) == texts(engine, 1, TASKS)


def test_the_reference_gives_the_same_answers(engine: Engine, random_checkpoint: Path) -> None:
    pytest.importorskip("transformers")
    with Engine.open(random_checkpoint, "torch", threads=1) as reference:
        for seed in (0, 1):
            expected = reference.answer(picture(seed), TASKS).answers
            found = engine.answer(picture(seed), TASKS).answers
            assert [a.text for a in found] == [a.text for a in expected]
            assert found[2].result.probabilities == pytest.approx(expected[2].result.probabilities, abs=1e-3)


def test_different_frames_in_turn_do_not_mix(engine: Engine) -> None:
    first = [texts(engine, seed, TASKS[:3]) for seed in range(4)]
    assert len({json.dumps(entry, default=str) for entry in first}) > 1
    with engine.look(picture(0)) as a, engine.look(picture(1)) as b:
        for _ in range(2):
            for frame, expected in ((a, first[0]), (b, first[1])):
                assert [x.text for x in engine.answer(frame, TASKS[:3]).answers] == [text for text, _, _ in expected]


def test_a_question_that_joins_beside_one_at_the_end_of_the_context_leaves_it_alone(random_checkpoint: Path) -> None:
    """Shorter rows are padded in a batch: the padding of a row near the end must not push it out of its slot."""
    long: list[Task] = [Ask(name=f"long {i}", question="?", answer_tokens=4000) for i in range(2)]
    short: list[Task] = [
        Ask(name=f"short {i}", question="what " * 12, answer_tokens=n) for i, n in enumerate((3, 60, 9))
    ]
    with Engine.open(random_checkpoint, slots=3, context=256, threads=1) as narrow:
        together = texts(narrow, 0, [*long, *short])
        assert together == [texts(narrow, 0, [task])[0] for task in (*long, *short)]
        assert [outcome for _, _, outcome in together[:2]] == [Outcome.BUDGET] * 2


def test_a_prompt_too_long_fails_alone(random_checkpoint: Path) -> None:
    with Engine.open(random_checkpoint, context=256, threads=1) as small:
        answers = small.answer(picture(0), [Ask(question="word " * 300), TASKS[1]]).answers
    assert isinstance(answers[0].error, PromptTooLong) and answers[1].outcome is Outcome.DONE


def test_an_image_too_large_for_the_context_fits_with_less_visual_tokens(random_checkpoint: Path) -> None:
    with (
        Engine.open(random_checkpoint, context=100, threads=1) as small,
        pytest.raises(PromptTooLong, match="or with less visual_tokens"),
    ):
        small.look(picture(0))
    with (
        Engine.open(random_checkpoint, context=100, threads=1, visual_tokens=20) as small,
        small.look(picture(0)) as frame,
    ):
        assert frame.visual[0].count <= 20 and (frame.width_px, frame.height_px) == picture(0).shape[1::-1]


def test_questions_on_two_images_get_the_tokens_that_transformers_gives(
    engine: Engine, random_checkpoint: Path, table: TokenTable
) -> None:
    pytest.importorskip("transformers")
    from model.reference import logits

    images = [picture(5, 252, 336), picture(6, 252, 336)]  # neither side resizes them
    prompts = PromptEncoder.open(random_checkpoint, ModelConfig.read(random_checkpoint))
    task = Ask(question="무엇이 달라졌어?", answer_tokens=10)
    with engine.look(*images) as frame:
        found = engine.answer(frame, [task]).answers[0].text
        counts = [visual.count for visual in frame.visual]
    assert counts == [108, 108]
    prompt = prompts.encode(task.prompt(), counts, system=SYSTEM)
    ids, text = [*prompt.prefix.tolist(), *prompt.suffix.tolist()], b""
    for _ in range(10):
        allowed = table.text_or_end
        ids.append(int(allowed[logits(random_checkpoint, np.array(ids), images)[-1][allowed].argmax()]))
        text += table.token_bytes[ids[-1]]
    assert found == text.decode("utf-8", "replace")
