"""One command for the whole way: steps in order, each done once, gone on with where it was cut off."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from exaone_ros.errors import ExaoneError
from exaone_ros.training import cli
from exaone_ros.training.cli_arguments import parser
from exaone_ros.training.cli_checks import bundled_model
from exaone_ros.training.whole import STEPS_FILE, Step, WholeOptions, carry_out, plan


@pytest.fixture
def options(tmp_path: Path) -> WholeOptions:
    return WholeOptions(tmp_path / "run", tmp_path / "pool", tmp_path / "model")


def test_every_step_is_a_command_that_the_parser_takes(options: WholeOptions, tmp_path: Path) -> None:
    mine = replace(options, data=tmp_path / "mine.json", start=tmp_path / "model", budget=20.0)
    for wanted in (options, replace(options, device="cuda", workers=14), mine):
        for step in plan(wanted):
            assert parser(None).parse_args([step.name, *step.arguments]).command == step.name
            assert step.command.startswith(f"python -m exaone_ros.training {step.name} ")
    names = [step.name for step in plan(options)]
    assert names == ["prerender", "train", "mtp", "export", "acceptance", "evaluate", "calibration"]
    assert [step.name for step in plan(mine)] == ["train", "export", "evaluate"]


def test_the_budget_is_shared_out(options: WholeOptions) -> None:
    for device, budget in (("cpu", 180.0), ("cuda", 25.0), ("cpu", 30.0)):
        minutes = 0.0
        for step in plan(replace(options, device=device, budget=budget)):
            parsed = parser(None).parse_args([step.name, *step.arguments])
            minutes += getattr(parsed, "minutes", 0.0)
        assert 0.5 * budget < minutes < 0.85 * budget, "rendering and measuring need the rest"


def make(step: Step) -> None:
    """Leave what the step leaves in the model's folder."""
    if step.makes is not None:
        step.makes.parent.mkdir(parents=True, exist_ok=True)
        step.makes.touch()


def test_steps_that_are_done_are_not_done_again(options: WholeOptions) -> None:
    ran: list[str] = []
    lines: list[str] = []

    def execute(step: Step) -> int:
        ran.append(step.name)
        make(step)
        return 0

    carry_out(options, lines.append, execute)
    assert ran == [step.name for step in plan(options)]
    assert set(json.loads((options.run / STEPS_FILE).read_text())) == set(ran)
    ran.clear()
    carry_out(options, lines.append, execute)
    assert ran == []
    assert lines[-1] == f"all is done: the model lies in {options.model}"
    assert [line.endswith("done before") for line in lines[-8:-1]] == [True] * 7
    carry_out(replace(options, seed=1), lines.append, execute)
    assert ran == ["train", "mtp", "export", "acceptance", "evaluate", "calibration"], "and what follows from it"


def test_what_was_deleted_from_the_model_is_made_again(options: WholeOptions) -> None:
    ran: list[str] = []

    def execute(step: Step) -> int:
        ran.append(step.name)
        make(step)
        return 0

    carry_out(options, lambda line: None, execute)
    for file, again in (
        ("evaluation.json", ["evaluate", "calibration"]),
        ("model.safetensors", ["export", "acceptance", "evaluate", "calibration"]),
    ):
        (options.model / file).unlink()
        ran.clear()
        carry_out(options, lambda line: None, execute)
        assert ran == again


def test_what_lies_behind_a_step_that_is_done_anew_is_not_done_whatever_happens(options: WholeOptions) -> None:
    ran: list[str] = []
    broken: set[str] = set()

    def execute(step: Step) -> int:
        ran.append(step.name)
        make(step)
        return 1 if step.name in broken else 0

    carry_out(options, lambda line: None, execute)
    other = replace(options, seed=1)  # of the steps behind training none has the seed among its arguments
    for fails in ("train", "mtp"):
        broken.add(fails)
        with pytest.raises(ExaoneError, match=f"{fails} ended with status 1"):
            carry_out(other, lambda line: None, execute)
        broken.clear()
    ran.clear()
    carry_out(other, lambda line: None, execute)
    assert ran == ["mtp", "export", "acceptance", "evaluate", "calibration"]
    broken.add("train")
    with pytest.raises(ExaoneError, match="train ended"):
        carry_out(options, lambda line: None, execute)
    broken.clear()
    ran.clear()
    carry_out(other, lambda line: None, execute)
    assert ran[0] == "train", "the run's weights are no longer those that these arguments left"


def test_a_step_that_fails_is_where_the_next_call_goes_on(options: WholeOptions) -> None:
    ran: list[str] = []
    broken = {"mtp"}

    def execute(step: Step) -> int:
        ran.append(step.name)
        make(step)
        return 3 if step.name in broken else 0

    with pytest.raises(ExaoneError, match="mtp ended with status 3"):
        carry_out(options, lambda line: None, execute)
    assert ran == ["prerender", "train", "mtp"]
    ran.clear()
    broken.clear()
    carry_out(options, lambda line: None, execute)
    assert ran == ["mtp", "export", "acceptance", "evaluate", "calibration"]


def test_what_cannot_be_is_refused(options: WholeOptions) -> None:
    with pytest.raises(ExaoneError, match="budget is 1 minutes"):
        plan(replace(options, budget=1.0))
    with pytest.raises(ExaoneError, match="device is 'tpu'"):
        plan(replace(options, device="tpu"))


def test_a_step_runs_in_a_process_of_its_own(options: WholeOptions, tmp_path: Path) -> None:
    from exaone_ros.training.whole import _execute

    missing = Step("export", ("--run", str(tmp_path / "none"), "--model", str(tmp_path / "model")))
    assert _execute(missing) == 1


def test_the_command_hands_on_its_options(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    taken: list[WholeOptions] = []
    monkeypatch.setattr("exaone_ros.training.whole.carry_out", taken.append)
    run = str(tmp_path / "run")
    monkeypatch.setattr("exaone_ros.training.own_pictures.read_coco", lambda *_: None)  # test_own_pictures reads one
    monkeypatch.setattr("exaone_ros.training.evaluate.own_examination", lambda _: SimpleNamespace(frames=lambda: ()))
    assert cli.main(["all", "--run", run, "--budget", "20", "--data", "mine.json", "--patience", "7"]) == 0
    assert (taken[0].run, taken[0].budget, taken[0].patience) == (Path(run), 20.0, 7)
    assert taken[0].start == bundled_model(), "one's own objects are taught to the bundled model"
    assert cli.main(["all", "--run", run]) == 0
    assert taken[1].start is None
