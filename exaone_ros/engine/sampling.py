"""Choosing the next token from the logits, and saying how sure that choice was."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral, Real

import numpy as np
from numpy.typing import NDArray

from exaone_ros.errors import EngineError, TaskError

EVIDENCE_TOKENS = 64
"""Alternatives that are kept with a choice: all of them where the grammar allows no more than this."""


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen.

    Attributes:
        temperature: 0 = greedy, the other settings but the penalty are then without effect.
        top_p: keep the most probable tokens that together reach this probability, 0..1.
        top_k: keep this many of the most probable tokens; 0 = all.
        presence_penalty: taken off the logit of every token that was chosen before in the same answer. Tokens that
            the grammar forced do not count: nobody chose them.
        seed: the same seed, question and frame give the same answer, alone or among other questions.

    Raises:
        TaskError: a value is of the wrong type or out of range.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    presence_penalty: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, kind, valid, expected in (
            ("temperature", self.temperature, Real, lambda value: 0 <= value <= 10, "0 to 10"),
            ("top_p", self.top_p, Real, lambda value: 0 < value <= 1, "above 0, at most 1"),
            ("top_k", self.top_k, Integral, lambda value: value >= 0, "an integer, 0 or more"),
            ("presence_penalty", self.presence_penalty, Real, lambda value: abs(value) <= 10, "-10 to 10"),
            ("seed", self.seed, Integral, lambda value: value >= 0, "an integer, 0 or more"),
        ):
            # NaN is refused too: it compares false
            if isinstance(value, bool) or not isinstance(value, kind) or not valid(value):
                raise TaskError(f"sampling: {name} is {value!r}; expected {expected}")


GREEDY = Sampling()
"""For boxes, counts and choices."""

GENERAL = Sampling(temperature=1.0, top_p=0.95, presence_penalty=1.5)
"""Recommended with EXAONE 4.5 in general (its model card; technical report, decoding settings)."""

OCR_KOREAN = Sampling(temperature=0.6, top_p=0.95, top_k=20, presence_penalty=1.5)
"""Recommended with EXAONE 4.5 for documents, OCR and Korean input (its model card)."""

PRESETS = {"greedy": GREEDY, "general": GENERAL, "ocr_korean": OCR_KOREAN}


class Choice:
    """A chosen token. How sure the choice was is computed when somebody first asks: mostly nobody does.

    Args:
        token: its id.
        allowed: the ids that it was chosen from, ascending.
        logits: float32, theirs, all finite or -inf.
        at: where among them the token is.
    """

    def __init__(self, token: int, allowed: NDArray[np.int64], logits: NDArray[np.float32], at: int) -> None:
        self.token = token
        self._allowed, self._logits, self._at = allowed, logits, at

    @property
    def alone(self) -> bool:
        """One token was allowed."""
        return self._allowed.size == 1

    @cached_property
    def probability(self) -> float:
        """Of the token among the allowed ones, before temperature, cuts and penalty, 0..1."""
        weights = self._weights
        return float(weights[self._at] / weights.sum())

    @cached_property
    def alternatives(self) -> tuple[tuple[int, float], ...]:
        """(id, probability) of the allowed tokens, most probable first, `token` included, at most `EVIDENCE_TOKENS`;
        empty where one token was allowed."""
        if self.alone:
            return ()
        weights = self._weights
        return _most_probable(self._allowed, weights / weights.sum(), self._at)

    @cached_property
    def _weights(self) -> NDArray[np.float64]:
        """Of the allowed tokens; their probabilities up to a factor."""
        return _weights(self._logits.astype(np.float64))


def choose(
    logits: NDArray[np.float32],
    allowed: NDArray[np.int64],
    sampling: Sampling,
    rng: np.random.Generator | None,
    chosen_before: NDArray[np.int64],
) -> Choice:
    """Choose one of the allowed tokens.

    Args:
        logits: float32 [vocab].
        allowed: ids, ascending, not empty. Greedy ties go to the lowest id, as `argmax` over all logits would.
        sampling: how to choose.
        rng: advanced by one draw where the choice is sampled; greedy choices need none.
        chosen_before: ids that the presence penalty applies to, ascending.

    Raises:
        EngineError: a logit is NaN or infinite, or none of the allowed ones is finite.
    """
    found = logits.take(allowed)
    at = int(found.argmax())
    best = float(found[at])
    if not math.isfinite(best):  # the first NaN, if there is one, is what argmax finds
        raise EngineError(
            f"the backend gave logits whose largest is {best} among {allowed.size} allowed tokens; expected finite "
            "numbers: the weights or the numeric format of the backend are broken"
        )
    if allowed.size > 1 and (sampling.temperature or (sampling.presence_penalty and chosen_before.size)):
        at = _choose_otherwise(found.astype(np.float64), allowed, sampling, rng, chosen_before)
    return Choice(int(allowed[at]), allowed, found, at)


def _choose_otherwise(
    scores: NDArray[np.float64],
    allowed: NDArray[np.int64],
    sampling: Sampling,
    rng: np.random.Generator | None,
    chosen_before: NDArray[np.int64],
) -> int:
    """Index of a choice that is not simply the largest score; changes `scores`."""
    if sampling.presence_penalty and chosen_before.size:
        scores -= sampling.presence_penalty * np.isin(allowed, chosen_before, assume_unique=True)
    if sampling.temperature == 0:
        return int(scores.argmax())
    if rng is None:
        raise EngineError("sampling at a temperature needs a random generator")
    return _draw(scores, sampling, rng)


def _softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    weights = _weights(scores.copy())
    return weights / weights.sum()


def _weights(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities up to a factor, in place of the scores."""
    scores -= scores.max()
    return np.exp(scores, out=scores)


def _draw(scores: NDArray[np.float64], sampling: Sampling, rng: np.random.Generator) -> int:
    """Index drawn after temperature, then top-k, then top-p: the order in which serving engines apply them."""
    order = np.argsort(-scores, kind="stable")
    if sampling.top_k:
        order = order[: sampling.top_k]
    ordered = scores[order]
    with np.errstate(over="ignore"):  # below the best: at a temperature next to 0 the others have no chance
        probabilities = _softmax((ordered - ordered[0]) / sampling.temperature)
    cumulative = probabilities.cumsum()
    if sampling.top_p < 1:
        kept = int(np.searchsorted(cumulative, sampling.top_p)) + 1  # the token that crosses the mark is kept
        cumulative = cumulative[:kept]
    at = np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right")
    return int(order[min(int(at), cumulative.size - 1)])


def _most_probable(
    allowed: NDArray[np.int64], probabilities: NDArray[np.float64], taken: int
) -> tuple[tuple[int, float], ...]:
    least_first = -probabilities
    if allowed.size > EVIDENCE_TOKENS:
        keep = least_first.argpartition(EVIDENCE_TOKENS - 1)[:EVIDENCE_TOKENS]
        keep = keep.take(least_first.take(keep).argsort(kind="stable"))
        if taken not in keep.tolist():
            keep[-1] = taken  # sampled from below the first ones: it takes the place of the least of them
    else:
        keep = least_first.argsort(kind="stable")
    return tuple(zip(allowed.take(keep).tolist(), probabilities.take(keep).tolist(), strict=True))
