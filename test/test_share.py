"""The package finds its own files, and says where it looked when it does not."""

from pathlib import Path

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


def test_a_dependency_that_cannot_be_loaded_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lacks_a_library.py").write_text("raise ImportError('libGL.so.1: cannot open', name=__name__)\n")
    (tmp_path / "lacks_a_module.py").write_text("import no_such_module\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingExtra, match=r"'lacks_a_library' is installed, but cannot be loaded: libGL\.so\.1"):
        require("lacks_a_library", "cpu")
    with pytest.raises(ModuleNotFoundError, match="no_such_module") as caught:
        require("lacks_a_module", "cpu")
    assert not isinstance(caught.value, MissingExtra)
