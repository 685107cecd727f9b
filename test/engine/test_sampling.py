"""Choices have the distribution that their settings say, and evidence tells how sure they were."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exaone_ros.engine.sampling import EVIDENCE_TOKENS, GENERAL, GREEDY, OCR_KOREAN, Choice, Sampling, choose
from exaone_ros.errors import EngineError, TaskError
from exaone_ros.tasks.evidence import LaterEvidence, TokenEvidence

NOTHING = np.array([], np.int64)


def draw(logits: list[float], sampling: Sampling, times: int = 4000, before: np.ndarray = NOTHING) -> np.ndarray:
    """Frequencies of each token over many draws."""
    rng = np.random.default_rng(1)
    row, allowed = np.array(logits, np.float32), np.arange(len(logits))
    tokens = [choose(row, allowed, sampling, rng, before).token for _ in range(times)]
    return np.bincount(tokens, minlength=len(logits)) / times


def one(logits: np.ndarray, allowed: np.ndarray, sampling: Sampling = GREEDY) -> Choice:
    return choose(logits.astype(np.float32), allowed, sampling, np.random.default_rng(0), NOTHING)


def test_greedy_takes_the_best_allowed_token_and_the_lowest_id_on_ties() -> None:
    logits = np.array([9.0, 1.0, 5.0, 5.0, 2.0])
    assert one(logits, np.array([1, 2, 3, 4])).token == 2
    assert one(logits, np.array([3, 4])).token == 3


def test_temperature_one_samples_the_softmax() -> None:
    expected = np.exp([0.0, 1.0, 2.0]) / np.exp([0.0, 1.0, 2.0]).sum()
    assert np.abs(draw([0, 1, 2], Sampling(temperature=1.0)) - expected).max() < 0.03


def test_temperature_sharpens() -> None:
    expected = np.exp([0.0, 2.0, 4.0]) / np.exp([0.0, 2.0, 4.0]).sum()
    assert np.abs(draw([0, 1, 2], Sampling(temperature=0.5)) - expected).max() < 0.03


def test_top_k_keeps_the_first_k() -> None:
    frequencies = draw([0, 1, 2, 1.5], Sampling(temperature=1.0, top_k=2))
    assert frequencies[0] == frequencies[1] == 0
    assert abs(frequencies[2] - 1 / (1 + math.exp(-0.5))) < 0.03


def test_top_p_keeps_the_token_that_crosses_the_mark_and_no_more() -> None:
    logits = np.log([0.5, 0.3, 0.15, 0.05]).tolist()
    assert (draw(logits, Sampling(temperature=1.0, top_p=0.6)) > 0).tolist() == [True, True, False, False]
    assert (draw(logits, Sampling(temperature=1.0, top_p=0.4)) > 0).tolist() == [True, False, False, False]
    assert (draw(logits, Sampling(temperature=1.0, top_p=1.0)) > 0).all()


def test_presence_penalty_is_taken_off_what_was_chosen_before() -> None:
    before = np.array([2])
    row, allowed = np.array([0.0, 1.0, 2.0], np.float32), np.arange(3)
    rng = np.random.default_rng(0)
    assert choose(row, allowed, Sampling(presence_penalty=1.5), rng, before).token == 1
    assert choose(row, allowed, Sampling(presence_penalty=0.5), rng, before).token == 2
    frequencies = draw([0, 0], Sampling(temperature=1.0, presence_penalty=1.5), before=np.array([0]))
    assert abs(frequencies[0] - 1 / (1 + math.exp(1.5))) < 0.03


def test_the_published_settings() -> None:
    assert (GENERAL.temperature, GENERAL.top_p, GENERAL.top_k, GENERAL.presence_penalty) == (1.0, 0.95, 0, 1.5)
    assert (OCR_KOREAN.temperature, OCR_KOREAN.top_p, OCR_KOREAN.top_k) == (0.6, 0.95, 20)
    assert GREEDY.temperature == 0 and GREEDY.presence_penalty == 0


def test_a_seed_repeats() -> None:
    row, allowed = np.zeros(50, np.float32), np.arange(50)

    def tokens(seed: int) -> list[int]:
        rng = np.random.default_rng(seed)
        return [choose(row, allowed, GENERAL, rng, NOTHING).token for _ in range(20)]

    assert tokens(3) == tokens(3) != tokens(4)


@given(st.integers(1, 300), st.integers(0, 10_000), st.sampled_from([GREEDY, GENERAL, OCR_KOREAN]))
def test_evidence_is_the_softmax_under_the_mask(size: int, seed: int, sampling: Sampling) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 4, 400)
    allowed = np.sort(rng.choice(400, size, replace=False))
    choice = one(logits, allowed, sampling)
    weights = np.exp(logits[allowed].astype(np.float32).astype(np.float64))
    expected = dict(zip(allowed.tolist(), (weights / weights.sum()).tolist(), strict=True))
    assert choice.token in expected
    assert choice.probability == pytest.approx(expected[choice.token])
    if size == 1:
        assert choice.alternatives == () and choice.probability == 1
        return
    assert len(choice.alternatives) == min(size, EVIDENCE_TOKENS)
    listed = dict(choice.alternatives)
    assert listed[choice.token] == choice.probability
    assert all(listed[token] == pytest.approx(expected[token]) for token in listed)
    values = [probability for _, probability in choice.alternatives]
    assert values == sorted(values, reverse=True)
    if size <= EVIDENCE_TOKENS:
        assert sum(values) == pytest.approx(1)
    else:
        top = sorted(expected.values(), reverse=True)[: EVIDENCE_TOKENS - 1]
        assert values[: EVIDENCE_TOKENS - 1] == pytest.approx(top)


def test_probabilities_are_those_of_the_model_not_of_the_settings() -> None:
    logits = np.array([0.0, 1.0])
    choice = one(logits, np.arange(2), Sampling(temperature=5.0, presence_penalty=1.0))
    assert choice.alternatives[0] == (1, pytest.approx(1 / (1 + math.exp(-1))))


def test_huge_logits_do_not_overflow() -> None:
    choice = one(np.array([3e38, -3e38, 2.9e38]), np.arange(3))
    assert choice.token == 0 and choice.probability == 1


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_broken_logits_are_an_error_that_says_so(bad: float) -> None:
    logits = np.array([0.0, bad, 1.0])
    with pytest.raises(EngineError, match=f"{bad}.*finite"):
        one(logits, np.arange(3))
    assert one(logits, np.array([0, 2])).token == 2  # what the grammar excludes is never read
    with pytest.raises(EngineError, match="finite"):
        one(np.full(3, -np.inf), np.arange(3))


def test_minus_infinity_excludes_a_token() -> None:
    assert draw([0, -math.inf, 0], Sampling(temperature=1.0), times=200)[1] == 0


@pytest.mark.parametrize("temperature", [1e-3, 1e-300, 1e-310, 5e-324])
def test_next_to_temperature_zero_the_best_token_is_taken(temperature: float) -> None:
    """Divided by as little as that, logits are infinite."""
    assert draw([1, 20, -math.inf, 19.9], Sampling(temperature=temperature), times=20)[1] == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -1), ("temperature", math.nan), ("top_p", 0), ("top_p", 1.1), ("top_k", -1), ("seed", -1),
        ("temperature", "1"), ("temperature", None), ("temperature", True), ("top_k", 1.5), ("seed", 0.5),
        ("presence_penalty", [1]),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(TaskError, match=f"{name}.*expected"):
        Sampling(**{name: value})  # type: ignore[arg-type]


def test_evidence_is_computed_when_it_is_first_read_and_only_once() -> None:
    class Counted:
        reads = 0
        alone = False

        @property
        def probability(self) -> float:
            self.reads += 1
            return 0.75

        @property
        def alternatives(self) -> tuple[tuple[int, float], ...]:
            self.reads += 1
            return ((1, 0.75), (0, 0.25))

    chosen = Counted()
    later = LaterEvidence(b"ab", chosen, (b"a", b"ab"))
    assert later.text == b"ab" and later.agreement(0) == 1.0 and chosen.reads == 0
    assert not later.forced and later.agreement(1) == 1.0 and later.agreement(2) == 0.75
    at_once = TokenEvidence(b"ab", 0.75, ((b"ab", 0.75), (b"a", 0.25)))
    assert later == at_once and at_once == later and hash(later) == hash(at_once) and repr(later) == repr(at_once)
    assert later != TokenEvidence(b"ab", 0.5) and later != "ab"
    assert chosen.reads == 2


def test_one_allowed_token_is_no_choice_and_broken_logits_are_named() -> None:
    only = choose(np.array([1.0, 2.0, 3.0], np.float32), np.array([1]), GENERAL, None, NOTHING)
    assert only.token == 1 and only.probability == 1.0 and only.alternatives == ()
    for broken in (np.nan, np.inf):
        logits = np.array([5.0, broken, 3.0], np.float32)
        with pytest.raises(EngineError, match="weights or the numeric format"):
            choose(logits, np.arange(3), GREEDY, None, NOTHING)
    with pytest.raises(EngineError, match="-inf among 2"):
        choose(np.full(3, -np.inf, np.float32), np.arange(2), GREEDY, None, NOTHING)
