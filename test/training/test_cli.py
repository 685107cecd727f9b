"""The commands: what cannot be is refused by name, before time is spent; an interrupt ends them without a traceback."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from exaone_ros.share import share_path
from exaone_ros.training import cli
from exaone_ros.training.calibration import BEGIN, END
from exaone_ros.training.cli_arguments import MODEL
from exaone_ros.training.cli_checks import bundled_model


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("train --minutes 0", "--minutes: it is '0'; expected a number, more than 0"),
        ("train --minutes inf", "--minutes: it is 'inf'; expected a number, more than 0"),
        ("train --threads -1", "--threads: it is '-1'; expected a whole number, 0 or more"),
        ("train --batch 0", "--batch: it is '0'; expected a whole number, 1 or more"),
        ("train --rate nan", "--rate: it is 'nan'; expected a number, more than 0"),
        ("train --share 1.5", "--share: it is '1.5'; expected a number, 0 or more, at most 1"),
        ("mtp --steps x", "--steps: it is 'x'; expected a whole number, 1 or more"),
        ("prerender --frames 0", "--frames: it is '0'; expected a whole number, 1 or more"),
        ("evaluate --frames 0", "--frames: it is '0'; expected a whole number, 1 or more"),
        ("evaluate --only", "--only: expected at least one argument"),
        ("calibration --threads -2", "--threads: it is '-2'; expected a whole number, 0 or more"),
        ("acceptance --looks 0", "--looks: it is '0'; expected a whole number, 1 or more"),
        ("stress --frames 0", "--frames: it is '0'; expected a whole number, 1 or more"),
        ("all --frames 0", "--frames: it is '0'; expected a whole number, 1 or more"),
        ("all --budget nan", "--budget: it is 'nan'; expected a number, more than 0"),
    ],
)
def test_numbers_that_cannot_be_are_refused(command: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(command.split())
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("train --run HERE/run --pool HERE/none", "none, which holds no frames; expected shards (*.npz): fill it with"),
        ("train --run HERE/run --pool HERE/empty", "empty, which holds no frames"),
        ("mtp --run HERE/run --pool HERE/none", "none, which holds no frames"),
        ("train --run HERE/run --pool HERE/cut", "shard-0000.npz cannot be read (it is no archive of numpy); expected"),
        ("train --run HERE/file", "file is a file; expected a folder: give another path"),
        ("train --run HERE/file/run", "--run is"),
        ("train --run HERE/run --start HERE/none", "--start is"),
        ("train --run HERE/run --images HERE/empty", "without --data; name the COCO JSON file"),
        ("train --run HERE/run --data HERE/none.json --images HERE/none", "none, which is no folder"),
        ("train --run HERE/damaged --steps 1", "checkpoint.pt cannot be read: it is no archive of torch"),
        ("mtp --run HERE/empty", "checkpoint.pt does not exist; expected the folder of a training run: `train --run"),
        ("mtp --run HERE/damaged", "checkpoint.pt cannot be read"),
        ("export --run HERE/empty --model HERE/model", "checkpoint.pt does not exist"),
        ("export --run HERE/damaged --weights best --model HERE/model", "best.pt does not exist; expected the weights"),
        ("export --run HERE/damaged --model HERE/file", "--model is"),
        ("evaluate --model HERE/none", "none does not exist"),
        ("evaluate --model HERE/empty", "config.json is missing"),
        ("evaluate --json HERE/none/x.json", "there is no folder"),
        ("evaluate --json HERE", "which is a folder; expected the name of a file"),
        ("evaluate --only nothing", "'nothing', which is unknown; expected some of"),
        ("evaluate --images HERE/empty", "without --data"),
        ("calibration --docs HERE/file", "lacks the markers"),
        ("calibration --docs HERE/none", "none does not exist; expected a page"),
        ("acceptance --model HERE/empty", "config.json is missing"),
        ("acceptance --only nothing", "'nothing', which is unknown"),
        ("stress --only nothing", "'nothing', which is unknown; expected some of ['unchanged'"),
        ("stress --model HERE/empty", "config.json is missing"),
        ("stress --docs HERE/file", "lacks the markers"),
        ("all --run HERE/run --budget 1", "budget is 1 minutes; expected 5 or more"),
        ("all --run HERE/run --start HERE/none", "--start is"),
        ("all --run HERE/run --data HERE/none.json", "none.json does not exist; expected a COCO JSON file"),
        ("all --run HERE/run --data HERE/few.json", "is held out"),
        ("all --run HERE/stopped", "steps.json is damaged"),
    ],
)
def test_what_is_not_there_is_named(
    command: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("empty", "damaged", "stopped", "cut"):
        (tmp_path / folder).mkdir()
    for file in ("file", "damaged/checkpoint.pt", "stopped/steps.json", "cut/shard-0000.npz", "one.png"):
        (tmp_path / file).write_text("[")
    picture = {"id": 1, "file_name": "one.png"}
    box = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9]}
    few = {"images": [picture], "categories": [{"id": 1, "name": "nut"}], "annotations": [box]}
    (tmp_path / "few.json").write_text(json.dumps(few))
    before = sorted(tmp_path.rglob("*"))
    assert cli.main(command.replace("HERE", str(tmp_path)).split()) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: ") and says in told
    assert [path for path in sorted(tmp_path.rglob("*")) if path not in before and path.name != "run"] == []


@pytest.mark.parametrize("command", ["evaluate --only none", "acceptance --only none"])
def test_the_bundled_model_is_found_from_any_folder(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("exaone_ros.training.acceptance.SETTINGS", {})
    assert cli.main(command.split()) == 1
    assert "--only names the" in capsys.readouterr().err, "which is looked at behind the model"


def test_a_card_that_could_not_be_written_is_refused_before_the_measuring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("exaone_ros.training.cli_checks.os.access", lambda path, mode: False)  # root may do anything
    assert cli.main(["evaluate", "--card"]) == 1
    assert "may not be written; expected a model of yours: name it with --model" in capsys.readouterr().err


def test_a_model_below_the_current_folder_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert bundled_model() == share_path(MODEL.as_posix()) and bundled_model().is_absolute()
    MODEL.mkdir(parents=True)
    assert bundled_model() == MODEL, "`export` has just written it"


def test_no_bundled_model_is_told_with_the_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("exaone_ros.share.__file__", str(tmp_path / "exaone_ros" / "share.py"))
    monkeypatch.setattr("exaone_ros.share.sys.prefix", str(tmp_path))
    assert cli.main(["calibration"]) == 1
    assert "tabletop-tiny' of exaone_ros was not found; searched" in capsys.readouterr().err


def test_a_page_with_its_markers_is_a_place(tmp_path: Path) -> None:
    from exaone_ros.training.page import place_of

    page = tmp_path / "page.md"
    page.write_text(f"before {BEGIN} old {END} after")
    assert place_of(page, BEGIN, END) == ("before ", " after")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_an_end_that_is_asked_for_is_an_interrupt_but_what_is_ignored_stays_so(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("exaone_ros.training.whole.carry_out", lambda _: signal.raise_signal(number))
    before = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGHUP)}
    try:
        signal.signal(number, signal.SIG_IGN)
        assert cli.main(["all", "--run", str(tmp_path)]) == 0
        signal.signal(number, signal.SIG_DFL)
        assert cli.main(["all", "--run", str(tmp_path)]) == cli.INTERRUPTED
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_every_command_takes_an_end_that_is_asked_for_as_an_interrupt(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(cli.COMMANDS, "calibration", lambda _: signal.raise_signal(number))
    before = signal.signal(number, signal.SIG_DFL)
    try:
        assert cli.main(["calibration"]) == cli.INTERRUPTED
        assert signal.getsignal(number) is signal.SIG_DFL, "what comes behind the command is as it was"
    finally:
        signal.signal(number, before)


def test_an_interrupt_ends_a_command_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("exaone_ros.training.whole.carry_out", interrupted)
    assert cli.main(["all", "--run", str(tmp_path)]) == cli.INTERRUPTED
    assert "interrupted: the same command goes on" in capsys.readouterr().err
