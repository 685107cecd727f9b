"""What may follow is found out beside the backend's run, and what that finds or breaks is the same as without."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from engine.strict_backend import StrictBackend

from exaone_ros.engine import ahead
from exaone_ros.engine.backend import Row
from exaone_ros.engine.decode import Batch
from exaone_ros.engine.grammar import Grammars, JsonAnswer
from exaone_ros.engine.sampling import GENERAL, GREEDY, Sampling
from exaone_ros.engine.sequence import Outcome, Prefix, Question, Sequence
from exaone_ros.engine.speculation import Speculation, Speculator
from exaone_ros.engine.timings import Meter
from exaone_ros.engine.token_table import TokenTable
from exaone_ros.tasks import Count, Decide, Ground

HEAD = np.array([10, 11, 12, 13, 14], np.int64)
SCHEMAS: list[tuple[dict[str, Any] | None, int]] = [
    ({**Ground(name="objects").schema(), "minItems": 1, "maxItems": 3}, 0),
    (Count().schema(), 0),
    (Decide(instruction="?", options=("clear", "blocked")).schema(), 8),
    (None, 0),
]


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the bundled vocabulary it would not be worth it."""
    monkeypatch.setattr(ahead, "LEAST_VOCAB", 0)


@pytest.fixture
def batch() -> Iterator[Batch]:
    backend = StrictBackend(slots=6)
    made = Batch(backend, 512, Speculator(backend, Speculation(ngram=4)))
    yield made
    made.close()


def sequences(table: TokenTable, grammars: Grammars, sampling: Sampling) -> list[Sequence]:
    made = []
    for index, (schema, thinking) in enumerate(SCHEMAS):
        tokens = np.array(table.encode_markup(f"question {index}"), np.int64)
        question = Question(f"q{index}", tokens, schema, 120 if schema else 20, thinking, sampling)
        made.append(Sequence(question, Prefix(0, HEAD.size), table, grammars, 512))
    return made


def run(batch: Batch, asked: list[Sequence]) -> None:
    batch._backend.run([Row(0, 0, HEAD, logits=0)])
    batch.join(dict(enumerate(asked, start=1)), Meter())
    while batch.running:
        batch.step(list(batch.running), Meter())
        for slot in [slot for slot, sequence in batch.running.items() if sequence.finished]:
            batch.leave(slot)


def said(asked: list[Sequence]) -> list[object]:
    return [(s.outcome, s.decoded(), s.written, s.tokens_sampled, s.tokens_forced) for s in asked]


@pytest.mark.parametrize("sampling", [GREEDY, GENERAL])
def test_answers_are_the_same(
    batch: Batch, table: TokenTable, grammars: Grammars, sampling: Sampling, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = sequences(table, grammars, sampling)
    run(batch, plain)
    assert not _helpers()
    monkeypatch.setattr(ahead, "LEAST_VOCAB", 0)
    backend = StrictBackend(slots=6)
    beside = Batch(backend, 512, Speculator(backend, Speculation(ngram=4)))
    asked = sequences(table, grammars, sampling)
    run(beside, asked)
    assert said(asked) == said(plain)
    assert _helpers()
    beside.close()
    beside.close()
    assert not _helpers()


def _helpers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("exaone_grammar")]


def test_masks_are_found_while_the_backend_runs(
    always: None, table: TokenTable, grammars: Grammars, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, where = threading.Semaphore(0), set()
    allowed = JsonAnswer.allowed

    def told(self: JsonAnswer) -> Any:
        ids = allowed(self)
        where.add(threading.current_thread().name.partition("_0")[0])
        found.release()
        return ids

    monkeypatch.setattr(JsonAnswer, "allowed", told)
    # a call of the backend that has logits to give ends only when the mask for them is there
    backend = StrictBackend(slots=6, on_run=lambda call: call == 0 or _acquired(found))
    batch, asked = Batch(backend, 512), sequences(table, grammars, GREEDY)[1:2]
    run(batch, asked)
    batch.close()
    assert asked[0].outcome is Outcome.DONE
    assert where == {"exaone_grammar"}


def _acquired(found: threading.Semaphore) -> None:
    assert found.acquire(timeout=60), "nobody prepares anything beside the call"


def test_a_grammar_that_breaks_there_ends_its_own_question_only(
    always: None, table: TokenTable, grammars: Grammars, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = Batch(batch._backend, 512)
    asked = sequences(table, grammars, GREEDY)
    broken = asked[0]._constraints[0]
    allowed = JsonAnswer.allowed

    def breaks(self: JsonAnswer) -> Any:
        if self is broken:
            raise ValueError("no state left")
        return allowed(self)

    monkeypatch.setattr(JsonAnswer, "allowed", breaks)
    run(batch, asked)
    batch.close()
    assert asked[0].outcome is Outcome.FAILED
    assert "'q0'" in str(asked[0].error) and "no state left" in str(asked[0].error)
    assert asked[1].outcome is Outcome.DONE


def test_a_backend_that_raises_leaves_nothing_under_way(always: None, table: TokenTable, grammars: Grammars) -> None:
    backend = StrictBackend(slots=6, fail_at=3)
    batch, asked = Batch(backend, 512), sequences(table, grammars, GREEDY)
    run(batch, asked)
    assert any(s.outcome is Outcome.FAILED and "out of memory" in str(s.error) for s in asked)
    assert batch._ahead._under_way is None
    again = sequences(table, grammars, GREEDY)
    run(batch, again)
    batch.close()
    assert again[1].outcome is Outcome.DONE
