"""Probabilities of stretches of text do not depend on where the tokenizer cuts."""

from __future__ import annotations

import pytest

from exaone_ros.tasks import Decoded, TokenEvidence


def token(text: str, **alternatives: float) -> TokenEvidence:
    listed = tuple((name.encode(), probability) for name, probability in alternatives.items())
    return TokenEvidence(text.encode(), alternatives.get(text, 1.0), listed)


def test_agreement_falls_from_one_to_the_tokens_probability() -> None:
    evidence = token("abc", abc=0.5, abd=0.2, ax=0.1, b=0.2)
    assert [evidence.agreement(n) for n in range(5)] == pytest.approx([1.0, 0.8, 0.7, 0.5, 0.5])
    assert evidence.agreement(-3) == 1.0


def test_a_shorter_token_that_could_go_on_alike_is_another_way() -> None:
    assert token("abc", abc=0.5, ab=0.3, x=0.2).agreement(2) == pytest.approx(0.8)
    assert token("abc", abc=0.5, a=0.3, x=0.2).agreement(2) == pytest.approx(0.5)


def test_forced_tokens_are_certain() -> None:
    decoded = Decoded("abcd", (TokenEvidence(b"ab"), TokenEvidence(b"cd")))
    assert decoded.probability_of(0, 4) == decoded.probability_of(1, 3) == 1.0


def test_a_whole_text_has_the_product_of_its_tokens() -> None:
    decoded = Decoded("abcd", (token("ab", ab=0.5, x=0.5), token("cd", cd=0.25, y=0.75)))
    assert decoded.probability_of(0, 4) == pytest.approx(0.125)
    parts = [decoded.probability_of(i, i + 1) for i in range(4)]
    assert parts[0] * parts[1] * parts[2] * parts[3] == pytest.approx(0.125)
    assert decoded.probability_of(2, 4) == pytest.approx(0.25)


def test_the_same_stretch_in_one_token_or_in_two_has_the_same_probability() -> None:
    whole = Decoded("ab", (token("ab", ab=0.3, ac=0.3, xy=0.4),))
    split = Decoded("ab", (token("a", a=0.6, x=0.4), token("b", b=0.5, c=0.5)))
    for start, end in ((0, 1), (1, 2), (0, 2)):
        assert whole.probability_of(start, end) == pytest.approx(split.probability_of(start, end))


def test_spans_are_byte_offsets() -> None:
    decoded = Decoded("가b", (TokenEvidence("가".encode()), TokenEvidence(b"b")))
    assert [(start, end) for start, end, _ in decoded.spans()] == [(0, 3), (3, 4)]
    assert Decoded("x").spans() == []
