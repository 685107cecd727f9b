"""The package finds its own files, and says where it looked when it does not."""

import pytest

from exaone_ros.errors import ExaoneError, MissingExtra, require
from exaone_ros.share import share_path


def test_ships_its_models_and_config() -> None:
    assert (share_path("models/exaone4_5-tabletop-tiny") / "tokenizer.json").is_file()


def test_a_missing_file_is_named_with_the_places_searched() -> None:
    with pytest.raises(ExaoneError, match=r"config/none\.yaml.*searched"):
        share_path("config/none.yaml")


def test_a_missing_dependency_names_the_extra() -> None:
    with pytest.raises(MissingExtra, match=r"no_such_module.*\[cpu\]"):
        require("no_such_module", "cpu")
