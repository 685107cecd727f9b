"""Names and their inverse agree for everything that can be named."""

import pytest

from exaone_ros.sim import vocabulary


@pytest.mark.parametrize("plural", [False, True])
@pytest.mark.parametrize("colour", [None, *vocabulary.COLOURS])
@pytest.mark.parametrize("shape", [None, *vocabulary.SHAPES])
def test_parse_inverts_name(shape: str | None, colour: str | None, plural: bool) -> None:
    assert vocabulary.parse(vocabulary.name(shape, colour, plural=plural)) == (shape, colour)


@pytest.mark.parametrize("text", ["person", "obstacle", "leftmost ball", "red", "cube red", "물체"])
def test_other_texts_name_nothing(text: str) -> None:
    assert vocabulary.parse(text) is None


def test_every_word_has_a_korean_name() -> None:
    for word in (*vocabulary.SHAPES, *vocabulary.COLOURS, vocabulary.PERSON, vocabulary.OBSTACLE):
        assert word in vocabulary.KOREAN
