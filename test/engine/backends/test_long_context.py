"""Past 4096 positions: positions, masks and buckets, against `transformers`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("transformers")

from engine.backends.runnable import HERE
from model.reference import logits, reference_model, relative_error
from model.tiny_checkpoint import VOCAB, tiny_config, write_checkpoint

from exaone_ros.engine.backend import Row
from exaone_ros.engine.backends import open_backend

LENGTH, DECODED = 4300, 6
CONTEXT = 4400


@pytest.fixture(scope="module", params=[24, 4096], ids=lambda window: f"window{window}")
def long_text(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """A checkpoint with this sliding window, and tokens of a text that is longer."""
    text = {
        "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2, "num_key_value_heads": 1,
        "sliding_window": request.param,
    }  # fmt: skip
    directory = write_checkpoint(tmp_path_factory.mktemp("long"), tiny_config(text))
    return directory, np.random.default_rng(1).integers(80, VOCAB, LENGTH + DECODED)


@pytest.mark.parametrize("name", HERE)
def test_tokens_past_4096_and_a_short_neighbour(name: str, long_text: tuple[Path, np.ndarray]) -> None:
    directory, ids = long_text
    expected = logits(directory, ids)[-DECODED - 1 :]
    short = ids[100:160]
    expected_short = logits(directory, short)
    reference_model.cache_clear()
    backend = open_backend(name, directory, slots=3, context=CONTEXT, threads=1)
    for start in range(0, LENGTH, 1024):
        part = ids[start : min(start + 1024, LENGTH)]
        (found,) = backend.run([Row(1, start, part)])
    backend.run([Row(0, 0, short[:40], logits=0)])
    assert relative_error(found[-1], expected[0]) < 1e-3
    for step in range(DECODED):  # both in one call, each in the bucket of its length
        at = LENGTH + step
        both = [Row(0, 40 + step, short[40 + step : 41 + step]), Row(1, at, ids[at : at + 1])]
        short_logits, long_logits = backend.run(both)
        assert relative_error(long_logits[-1], expected[step + 1]) < 1e-3
        assert relative_error(short_logits[-1], expected_short[40 + step]) < 1e-3
    backend.copy(1, [2], LENGTH)  # a long prefix shared
    (again,) = backend.run([Row(2, LENGTH, ids[LENGTH : LENGTH + 1])])
    assert relative_error(again[-1], expected[1]) < 1e-3
    backend.close()


@pytest.mark.parametrize("name", HERE)
def test_rows_that_outgrow_one_short_cache_after_the_other(name: str, long_text: tuple[Path, np.ndarray]) -> None:
    """Two questions on one prompt head, decoded together from 120 to 270 positions, the second behind the first."""
    directory, ids = long_text
    head, behind, steps = 120, 60, [1, 7, 30, 1, 40, 12, 1]
    expected = logits(directory, ids[: head + sum(steps)])
    backend = open_backend(name, directory, slots=4, context=CONTEXT, threads=1)
    backend.run([Row(3, 0, ids[:head], logits=0)])
    backend.copy(3, [0, 1], head)
    backend.copy(3, [1], head - behind)
    at = head
    for step in steps:
        first, second = ids[at : at + step], ids[at - behind : at - behind + step]
        found = backend.run([Row(0, at, first, logits=step), Row(1, at - behind, second, logits=step)])
        for start, part in ((at, found[0]), (at - behind, found[1])):
            assert relative_error(part, expected[start : start + step]) < 1e-3
        at += step
    (again,) = backend.run([Row(2, 0, ids[:50])])
    assert relative_error(again[-1], expected[49]) < 1e-3
    backend.close()
