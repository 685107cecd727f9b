"""What the engine's tests share: the bundled tokenizer, and doubles of the backend that check every call."""

from __future__ import annotations

from pathlib import Path

import pytest
from engine.strict_backend import StrictBackend

from exaone_ros.engine.grammar import Grammars
from exaone_ros.engine.token_table import TokenTable

BUNDLED = Path(__file__).parents[2] / "models" / "exaone4_5-tabletop-tiny"
VOCABULARY = 1792
END_OF_TURN = 53


@pytest.fixture(scope="session")
def model_dir() -> Path:
    """The directory of the bundled checkpoint."""
    return BUNDLED


@pytest.fixture(scope="session")
def table() -> TokenTable:
    """The bundled tokenizer; numbers up to 1000 and pieces of JSON are one token, other text goes byte by byte."""
    return TokenTable.open(BUNDLED, VOCABULARY, [END_OF_TURN])


@pytest.fixture(scope="session")
def grammars(table: TokenTable) -> Grammars:
    return Grammars(table)


@pytest.fixture
def backend() -> StrictBackend:
    """Four slots of 512 tokens under logits that depend on every token in the slot."""
    return StrictBackend()
