"""Figures name the weights that they were measured on, and are never taken for those of others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from exaone_ros.errors import CheckpointError, ExaoneError
from exaone_ros.share import share_path
from exaone_ros.training import acceptance, card, cli
from exaone_ros.training.acceptance import Worth, WorthReport, read_worth, write_worth
from exaone_ros.training.measured import (
    CARD_FILE,
    DIGITS,
    EVALUATION_FILE,
    STRESS_FILE,
    WORTH_FILE,
    doubt,
    fingerprint_of,
    outdated,
    read_figures,
    write_figures,
)

BUNDLED = share_path("models/exaone4_5-tabletop-tiny")
DRAFTS = {"none": Worth(3, 3, 7.5, 20.0, 9.0, 0.41, 12.0, 11.0)}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the bundled model that may be changed."""
    return Path(shutil.copytree(BUNDLED, tmp_path / "model"))


def change_weights(model: Path) -> None:
    """Turn the last bit of the last weight."""
    file = model / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-2] ^= 1
    file.write_bytes(content)


def test_the_bundled_figures_are_of_the_bundled_weights() -> None:
    weights = fingerprint_of(BUNDLED)
    assert read_figures(BUNDLED / EVALUATION_FILE)["weights"] == weights
    assert read_figures(BUNDLED / STRESS_FILE)["weights"] == weights
    drafts = read_worth(BUNDLED / WORTH_FILE)
    assert drafts is not None and drafts.weights == weights and "ngram 4" in drafts.worth
    assert f"`{weights[:DIGITS]}`" in (BUNDLED / CARD_FILE).read_text(encoding="utf-8")
    assert outdated(BUNDLED) == []


def test_new_weights_make_everything_in_the_folder_outdated(model: Path) -> None:
    change_weights(model)
    lines = outdated(model)
    measured = [name for name in (EVALUATION_FILE, WORTH_FILE, STRESS_FILE, CARD_FILE) if (model / name).exists()]
    assert {EVALUATION_FILE, WORTH_FILE, CARD_FILE} <= set(measured)
    assert [Path(line.split()[0]).name for line in lines] == measured
    for name in measured:
        (model / name).unlink()
    assert outdated(model) == []


def test_a_difference_is_told_in_words() -> None:
    file = Path("evaluation.json")
    assert doubt(file, "a" * 64, "a" * 64) == ""
    assert "another model (weights aaaaaaaaaaaaaaaa; this one's are bbbbbbbbbbbbbbbb)" in doubt(
        file, "a" * 64, "b" * 64
    )
    assert "does not say" in doubt(file, None, "b" * 64)


def test_older_files_are_read_and_doubted(tmp_path: Path) -> None:
    file = tmp_path / WORTH_FILE
    assert read_worth(file) is None
    file.write_text(json.dumps({"none": DRAFTS["none"].__dict__}))
    assert read_worth(file) == WorthReport(DRAFTS, None)
    for damaged in ("{", "[]", '{"none": {"steps": 1}}', '{"none": 3}'):
        file.write_text(damaged)
        with pytest.raises(CheckpointError, match=r"acceptance\.json.*measure again, or delete it"):
            read_worth(file)


@pytest.mark.parametrize("said", ["f" * 64, None])
def test_no_card_shows_drafts_of_other_weights(tmp_path: Path, said: str | None) -> None:
    report = {"model": "mine", "weights": "e" * 64, "frames": 7, "tables": {}}
    with pytest.raises(CheckpointError, match=r"acceptance\.json.*run `acceptance --model"):
        card.write_card(tmp_path / CARD_FILE, report, "", 1, WorthReport(DRAFTS, said))
    assert not (tmp_path / CARD_FILE).exists()
    card.write_card(tmp_path / CARD_FILE, report, "", 1, WorthReport(DRAFTS, "e" * 64))
    assert f"`{'e' * DIGITS}`" in (tmp_path / CARD_FILE).read_text(encoding="utf-8")


@pytest.fixture
def silent_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine in whose place nothing answers, and one frame to ask about."""

    class Silent:
        def __enter__(self) -> Silent:
            return self

        def __exit__(self, *_: object) -> None: ...

        def answer(self, frame: Any, tasks: list[Any]) -> Any:
            return SimpleNamespace(answers=[SimpleNamespace(result=None) for _ in tasks])

    monkeypatch.setattr("exaone_ros.engine.engine.Engine.open", lambda *_, **__: Silent())


@pytest.mark.usefixtures("silent_engine")
def test_the_evaluation_says_whose_figures_it_compares(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = tmp_path / "figures.json"
    command = ["evaluate", "--model", str(model), "--only", "flat", "--frames", "1", "--json", str(figures)]
    shipped = read_figures(model / EVALUATION_FILE)
    (model / EVALUATION_FILE).write_text(json.dumps(shipped | {"frames": 1}))
    assert cli.main(command) == 0
    assert "figures are those that come with the model" in capsys.readouterr().out
    assert read_figures(figures)["weights"] == fingerprint_of(BUNDLED)
    change_weights(model)
    assert cli.main([*command, "--card"]) == 1, "before anything is measured"
    captured = capsys.readouterr()
    assert "acceptance.json holds figures of another model" in captured.err and "flat" not in captured.out
    assert cli.main(command) == 0
    assert "evaluation.json holds figures of another model" in capsys.readouterr().out
    assert read_figures(figures)["weights"] == fingerprint_of(model) != fingerprint_of(BUNDLED)
    write_worth(model / WORTH_FILE, WorthReport(DRAFTS, fingerprint_of(model)))
    assert cli.main([*command, "--card"]) == 1
    assert "stress.json holds figures of another model" in capsys.readouterr().err
    (model / STRESS_FILE).unlink()
    assert cli.main([*command, "--card"]) == 0
    card = (model / CARD_FILE).read_text(encoding="utf-8")
    assert fingerprint_of(model)[:DIGITS] in card and "Where it breaks" not in card


@pytest.mark.usefixtures("silent_engine")
def test_no_card_of_weights_that_changed_meanwhile(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from exaone_ros.training.evaluate import Examiner

    before = (model / CARD_FILE).read_bytes()
    examine = Examiner.examine

    def and_export(*args: Any) -> Any:
        table = examine(*args)
        change_weights(model)
        return table

    monkeypatch.setattr(Examiner, "examine", and_export)
    assert cli.main(["evaluate", "--model", str(model), "--only", "flat", "--frames", "1", "--card"]) == 1
    assert "were replaced while they were measured" in capsys.readouterr().err
    assert (model / CARD_FILE).read_bytes() == before


def test_acceptance_writes_down_the_weights(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "exaone_ros.training.evaluate.mujoco_frames",
        lambda *_: iter([SimpleNamespace(image=np.zeros((4, 4, 3), np.uint8))]),
    )
    monkeypatch.setattr(acceptance, "measure", lambda *_: DRAFTS)
    assert cli.main(["acceptance", "--model", str(model), "--json", str(tmp_path / WORTH_FILE)]) == 0
    assert read_worth(tmp_path / WORTH_FILE) == WorthReport(DRAFTS, fingerprint_of(model))


def test_no_drafts_of_weights_that_changed_meanwhile(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("exaone_ros.training.evaluate.mujoco_frames", lambda *_: iter(()))

    def measure(*_: Any) -> Any:
        change_weights(model)
        return DRAFTS

    monkeypatch.setattr(acceptance, "measure", measure)
    assert cli.main(["acceptance", "--model", str(model), "--json", str(tmp_path / WORTH_FILE)]) == 1
    assert "were replaced while they were measured" in capsys.readouterr().err
    assert not (tmp_path / WORTH_FILE).exists()


def test_figures_are_json_also_where_there_is_no_number(tmp_path: Path) -> None:
    report = {"n": 0, "mean": float("nan"), "bins": [{"most": float("inf"), "right": 0.5}], "name": "x", "none": None}
    write_figures(tmp_path / "figures.json", report)
    assert read_figures(tmp_path / "figures.json") == {
        "n": 0, "mean": None, "bins": [{"most": None, "right": 0.5}], "name": "x", "none": None,
    }  # fmt: skip


def test_an_export_names_what_it_leaves_behind(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def export(checkpoint: Path, directory: Path) -> int:
        change_weights(directory)
        return 5_000_000

    monkeypatch.setattr("exaone_ros.training.export.export", export)
    (tmp_path / "checkpoint.pt").touch()
    assert cli.main(["export", "--run", str(tmp_path), "--model", str(model)]) == 0
    told = capsys.readouterr().out
    assert told.count("measure again") == 4 and str(model / WORTH_FILE) in told


def test_a_folder_without_a_model_has_no_fingerprint(tmp_path: Path) -> None:
    with pytest.raises(ExaoneError, match=r"config\.json"):
        fingerprint_of(tmp_path)
