"""Drafts save steps and change nothing: not an answer, not a probability, whoever guesses and however well."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine.strict_backend import StrictBackend
from numpy.typing import NDArray

from exaone_ros.engine.backend import DraftRow, Row
from exaone_ros.engine.decode import Batch
from exaone_ros.engine.engine import Engine
from exaone_ros.engine.grammar import Grammars
from exaone_ros.engine.sampling import GENERAL, GREEDY, Sampling
from exaone_ros.engine.sequence import Outcome, Prefix, Question
from exaone_ros.engine.sequence import Sequence as Answering
from exaone_ros.engine.speculation import Speculation, Speculator
from exaone_ros.engine.timings import Meter, Timings
from exaone_ros.engine.token_table import TokenTable
from exaone_ros.errors import EngineError
from exaone_ros.tasks import Ask, Count, Decide, Ground, Task

HEAD = np.array([10, 11, 12, 13, 14], np.int64)
QUESTIONS: list[tuple[dict[str, Any] | None, int]] = [
    ({**(Ground(classes=("red cube", "파란 공")).schema() or {}), "minItems": 2, "maxItems": 3}, 0),
    (Count().schema(), 0),
    (Decide(instruction="?", options=("clear", "blocked", "person"), reason=False).schema(), 12),
    ({"type": "string", "maxLength": 12}, 0),
    ({"enum": ["go", "go left", "go left now"]}, 5),
    (None, 6),
]
Maker = Callable[..., list[Answering]]


@dataclass
class Drafting(StrictBackend):
    """Guesses what the model will say, or, in a share of the cases, anything."""

    right: float = 1.0
    drafts: bool = True
    guessed: int = 0

    def draft(self, rows: Sequence[DraftRow]) -> list[NDArray[np.float32]]:
        assert self.model is not None
        logits = []
        for row in rows:
            held = self.contents[row.slot]
            assert 1 <= row.start <= len(held) and row.tokens.size
            self.guessed += 1
            if np.random.default_rng(self.guessed).random() < self.right:
                logits.append(self.model(held[: row.start] + tuple(row.tokens.tolist())))
            else:
                logits.append(np.random.default_rng(self.guessed).normal(size=self.vocab).astype(np.float32))
        return logits


@pytest.fixture
def make(table: TokenTable, grammars: Grammars) -> Maker:
    def make(sampling: Sampling = GREEDY) -> list[Answering]:
        made = []
        for i, (schema, budget) in enumerate(QUESTIONS):
            tokens = np.array(table.encode_markup(f"question {i}"), np.int64)
            question = Question(f"question {i}", tokens, schema, 200 if schema else 40, budget, sampling)
            made.append(Answering(question, Prefix(0, HEAD.size), table, grammars, 512))
        return made

    return make


def run(backend: StrictBackend, sequences: list[Answering], speculator: Speculator | None = None) -> Timings:
    backend.run([Row(0, 0, HEAD, logits=0)])
    batch, meter = Batch(backend, 512, speculator), Meter()
    waiting, free = list(sequences), list(range(1, backend.slots))
    while waiting or batch.running:
        batch.join({free.pop(0): waiting.pop(0) for _ in range(min(len(free), len(waiting)))}, meter)
        batch.step(list(batch.running), meter)
        for slot in [slot for slot, sequence in batch.running.items() if sequence.finished]:
            batch.leave(slot)
            free.append(slot)
    return meter.read()


def said(sequences: list[Answering]) -> list[object]:
    return [(s.outcome, s.decoded(), s.written, s.tokens_sampled, s.tokens_forced) for s in sequences]


@pytest.mark.parametrize("sampling", [GREEDY, GENERAL, Sampling(temperature=0.3, seed=4)])
@pytest.mark.parametrize("right", [1.0, 0.6, 0.0])
def test_what_is_said_does_not_depend_on_guesses_of_a_layer(make: Maker, right: float, sampling: Sampling) -> None:
    expected = make(sampling)
    plain = run(StrictBackend(), expected)
    for most in (1, 3):
        backend, sequences = Drafting(right=right), make(sampling)
        timings = run(backend, sequences, Speculator(backend, Speculation(mtp=most)))
        assert said(sequences) == said(expected)
        assert timings.tokens_drafted > 10
        assert timings.drafts_accepted <= timings.tokens_drafted
        if right == 1.0 and sampling == GREEDY:
            assert timings.drafts_accepted == timings.tokens_drafted - _behind_the_end(sequences, timings)
            assert timings.decode_steps < plain.decode_steps * (0.75 if most == 1 else 0.6)


def _behind_the_end(sequences: list[Answering], timings: Timings) -> int:
    """Right guesses that nobody asked about any more, as a budget had ended the answer."""
    left = timings.tokens_drafted - timings.drafts_accepted
    assert 0 <= left <= 3 * sum(s.outcome is not Outcome.DONE for s in sequences)
    return left


def test_the_last_answer_to_a_question_is_drafted_from(make: Maker) -> None:
    backend = StrictBackend(slots=8)
    speculator = Speculator(backend, Speculation(previous=64))
    first, again = make(), make()
    before = run(backend, first, speculator)
    assert before.tokens_drafted == 0
    after = run(backend, again, speculator)
    assert said(again) == said(first)
    assert after.drafts_accepted == after.tokens_drafted > 10
    assert after.decode_steps < before.decode_steps / 2
    # another view: other answers; what was said before is of little help and does no harm
    other, plain = make(), make()
    backend.model = StrictBackend(model=lambda content: _shifted(backend.vocab, content)).model
    run(StrictBackend(model=backend.model), plain)
    changed = run(backend, other, speculator)
    assert said(other) == said(plain)
    assert changed.drafts_accepted < changed.tokens_drafted
    # what comes true rules how much is guessed: wrong drafts shrink to one guess
    widest = [max(row.tokens.size for row in rows) for rows in backend.calls[-changed.decode_steps :]]
    assert changed.tokens_drafted < 4 * changed.decode_steps + 64 and min(widest) <= 2


def _shifted(vocab: int, content: tuple[int | bytes, ...]) -> NDArray[np.float32]:
    return np.random.default_rng([7, len(content)]).normal(0, 3, vocab).astype(np.float32)


def test_the_layer_takes_over_where_the_last_answer_is_wrong(make: Maker) -> None:
    backend = Drafting()
    speculator = Speculator(backend, Speculation(previous=8, mtp=2))
    run(backend, make(), speculator)
    backend.model = lambda content: _shifted(backend.vocab, content)
    before = backend.guessed
    sequences, plain = make(), make()
    run(backend, sequences, speculator)
    run(StrictBackend(model=backend.model), plain)
    assert said(sequences) == said(plain)
    assert backend.guessed > before


def test_the_layer_guesses_where_habit_has_nothing_to_say(make: Maker) -> None:
    found = {}
    for settings in (Speculation(ngram=4), Speculation(mtp=2), Speculation(ngram=4, mtp=2)):
        backend, sequences, plain = Drafting(), make(), make()
        timings = run(backend, sequences, Speculator(backend, settings))
        run(StrictBackend(), plain)
        assert said(sequences) == said(plain)
        found[settings] = backend.guessed, timings.decode_steps
    habit, layer, both = found.values()
    assert habit[0] == 0 < both[0] <= layer[0]
    assert both[1] < habit[1]


def test_a_layer_that_fails_ends_the_questions_of_that_step_by_name(make: Maker) -> None:
    class Failing(Drafting):
        def draft(self, rows: Sequence[DraftRow]) -> list[NDArray[np.float32]]:
            raise MemoryError("no more")

    backend, sequences = Failing(), make()
    run(backend, sequences, Speculator(backend, Speculation(mtp=1)))
    failed = [s for s in sequences if s.outcome is Outcome.FAILED]
    assert len(failed) >= 3
    assert all("failed in draft: MemoryError" in str(s.error) for s in failed)


@pytest.mark.parametrize(
    "bad", [{"mtp": 4}, {"mtp": -1}, {"mtp": True}, {"previous": 65}, {"previous": 1.5}, {"ngram": 17}]
)
def test_settings_out_of_range_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(EngineError, match=f"speculation: {next(iter(bad))} is"):
        Speculation(**bad)


def test_a_backend_without_the_layer_is_refused() -> None:
    with pytest.raises(EngineError, match="backend 'strict' has no MTP layer"):
        Speculator(StrictBackend(), Speculation(mtp=2))


TASKS: list[Task] = [
    Ground(name="named", classes=("red cube", "파란 공")),
    Count(name="count"),
    Decide(name="why", instruction="Stop?", options=("yes", "no"), thinking=True, thinking_budget=6),
    Ask(name="what", question="이것은 무엇이야?", answer_tokens=8),
]


@pytest.fixture(scope="module", params=["bundled", "random"])
def checkpoint(request: pytest.FixtureRequest, model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled checkpoint and one of random weights, each with an MTP layer that knows nothing."""
    pytest.importorskip("onnxruntime")
    from model.tiny_checkpoint import random_weights, write_safetensors

    from exaone_ros.model.checkpoint import Checkpoint

    directory = tmp_path_factory.mktemp(request.param)
    for path in model_dir.iterdir():
        if path.suffix in (".json", ".jinja"):
            shutil.copy(path, directory)
    weights = random_weights(json.loads((directory / "config.json").read_text()), mtp=True)
    if request.param == "bundled":
        real = Checkpoint.open(model_dir)
        weights = {n: v for n, v in weights.items() if n.startswith("mtp.")}
        weights |= {t.name: real.read(name) for name, t in real.tensors.items()}
    write_safetensors(directory / "model.safetensors", weights)
    return directory


def test_answers_of_a_real_decoder_are_the_same_with_every_setting(checkpoint: Path) -> None:
    images = [np.random.default_rng(seed).integers(0, 256, (112, 140, 3), dtype=np.uint8) for seed in (0, 0)]
    found: dict[Speculation | None, list[list[str]]] = {}
    settings = (Speculation(mtp=3), Speculation(previous=16), Speculation(previous=4, mtp=2), Speculation(ngram=4))
    for setting in (None, *settings, Speculation(previous=8, ngram=16, mtp=1)):
        with Engine.open(checkpoint, threads=1, speculation=setting) as engine:
            results = [engine.answer(image, TASKS) for image in images]
        found[setting] = [[a.text + a.reasoning for a in result.answers] for result in results]
        timings = results[1].timings
        assert (timings.tokens_drafted > 0) == (setting is not None)
        if setting is not None and setting.previous == 16:  # the same picture again
            assert timings.drafts_accepted >= 0.9 * timings.tokens_drafted
            assert timings.decode_steps < results[0].timings.decode_steps / 2
    assert all(answers == found[None] for answers in found.values())
