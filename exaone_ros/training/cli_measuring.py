"""Commands that measure a model through the engine: evaluate, calibration, acceptance, stress."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any

from exaone_ros.sim.frame import LabelledFrame
from exaone_ros.training.cli_checks import bundled_model, check_data, check_file, check_only, check_writable


def evaluate(options: argparse.Namespace) -> None:
    """Measure a model, print the tables, and write them where asked."""
    check_file(options.json, "--json")
    model = options.model or bundled_model()
    check_data(options)
    if options.card:
        check_writable(model)
    from tqdm import tqdm

    from exaone_ros.engine.engine import Engine
    from exaone_ros.training import targets
    from exaone_ros.training.acceptance import read_worth
    from exaone_ros.training.card import refuse_other, write_card
    from exaone_ros.training.evaluate import OWN_COLUMN, Examiner, examinations, markdown, own_examination
    from exaone_ros.training.export import count_parameters
    from exaone_ros.training.measured import (
        CARD_FILE,
        EVALUATION_FILE,
        STRESS_FILE,
        WORTH_FILE,
        doubt,
        fingerprint_of,
        read_figures,
        refuse_replaced,
        write_figures,
    )
    from exaone_ros.training.own_pictures import read_coco
    from exaone_ros.training.stress_report import read_stress

    weights = fingerprint_of(model)
    drafts = read_worth(model / WORTH_FILE) if options.card else None
    if drafts is not None:  # before an hour of measuring, not behind it
        refuse_other(model / WORTH_FILE, drafts.weights, weights)
    breaks = read_stress(model / STRESS_FILE) if options.card else None
    if breaks is not None:
        refuse_other(model / STRESS_FILE, breaks["weights"], weights)
    shipped = read_figures(model / EVALUATION_FILE)
    number = options.frames or shipped.get("frames", 300)
    chosen = examinations(number)
    if options.data is not None:
        chosen[OWN_COLUMN] = own_examination(read_coco(options.data, options.images))
    check_only(options.only, sorted(chosen), "column")
    tables: dict[str, dict[str, dict[str, float]]] = {}
    report: dict[str, Any] = {
        "model": model.resolve().name,
        "weights": weights,
        "backend": options.backend,
        "frames": number,
        "tables": tables,
    }
    with Engine.open(model, options.backend, slots=24, threads=options.threads) as engine:
        for name, column in chosen.items():
            if options.only is None or name in options.only:
                shown = _shown(column.frames, name, tqdm)
                tables[name] = Examiner(engine).examine(
                    shown, column.language, column.kinds, column.thinking, column.questioner
                )
                if options.json is not None:  # after each column: a run that is cut short keeps what it has
                    write_figures(options.json, report)
    found = targets.verdicts(tables)
    if options.json is not None:
        report["targets"] = targets.as_json(found)
        write_figures(options.json, report)
    print(f"{markdown(tables)}\n\n{targets.markdown(found)}")
    if shipped.get("frames") == number:
        reason = doubt(model / EVALUATION_FILE, shipped.get("weights"), weights)
        print(f"\n{targets.compared(tables, shipped.get('tables', {}), reason)}")
    if options.card:
        refuse_replaced(model, weights, "no card is")
        parameters = count_parameters(model)
        write_card(model / CARD_FILE, report, options.made, parameters, drafts, breaks)


def calibration(options: argparse.Namespace) -> None:
    """Hold scores and probabilities against the truth."""
    check_file(options.json, "--json")
    model = options.model or bundled_model()
    from tqdm import tqdm

    from exaone_ros.engine.engine import Engine
    from exaone_ros.training.calibration import BEGIN, END, collect, markdown, report_of, write_into
    from exaone_ros.training.evaluate import mujoco_frames
    from exaone_ros.training.measured import write_figures
    from exaone_ros.training.page import place_of

    if options.docs is not None:  # before minutes of measuring, not behind them
        place_of(options.docs, BEGIN, END)
    with Engine.open(model, options.backend, slots=24, threads=options.threads) as engine:
        frames = tqdm(mujoco_frames(options.split, options.frames), total=options.frames, unit="frame")
        claims = collect(engine, frames)
    report = report_of(model.resolve().name, options.backend, options.split, options.frames, claims)
    if options.json is not None:
        write_figures(options.json, report)
    print(markdown(report))
    if options.docs is not None:
        write_into(options.docs, report)


def acceptance(options: argparse.Namespace) -> None:
    """Measure what drafts are worth."""
    check_file(options.json, "--json")
    model = options.model or bundled_model()
    from exaone_ros.training.acceptance import SETTINGS, WorthReport, markdown, measure, possible, write_worth
    from exaone_ros.training.evaluate import mujoco_frames
    from exaone_ros.training.measured import fingerprint_of, refuse_replaced

    weights = fingerprint_of(model)
    wanted = possible(model) if options.only is None else options.only
    check_only(wanted, sorted(SETTINGS), "setting")
    if options.only is None and len(wanted) < len(SETTINGS):
        print(f"{model} has no MTP layer: measuring the settings that need none")
    images = [frame.image for frame in mujoco_frames("validation", options.frames)]
    worth = measure(
        model, images, wanted, options.backend, options.threads, options.looks, options.shift_px,
        lambda name: print(name, flush=True),
    )  # fmt: skip
    print(markdown(worth))
    if options.json is not None:
        refuse_replaced(model, weights, "no figures are")  # each setting opened them anew
        write_worth(options.json, WorthReport(worth, weights))


def stress(options: argparse.Namespace) -> None:
    """Look where a model breaks."""
    check_file(options.json, "--json")
    model = options.model or bundled_model()
    from tqdm import tqdm

    from exaone_ros.engine.engine import Engine
    from exaone_ros.training import stress as conditions
    from exaone_ros.training.measured import fingerprint_of, refuse_replaced, write_figures
    from exaone_ros.training.page import place_of
    from exaone_ros.training.stress_report import BEGIN, END, markdown, write_into

    if options.docs is not None:  # before minutes of measuring, not behind them
        place_of(options.docs, BEGIN, END)
    check_only(options.only, list(conditions.CONDITIONS), "condition")
    chosen = [name for name in conditions.CONDITIONS if options.only is None or name in options.only]
    weights = fingerprint_of(model)
    report = conditions.report_of(model.resolve().name, weights, options.frames)
    with Engine.open(model, options.backend, slots=40, threads=options.threads) as engine:
        bar = tqdm(conditions.each_condition(chosen, options.frames), total=len(chosen), unit="condition")
        for name, frames in bar:
            report["conditions"][name] = conditions.examine(engine, frames)
            if options.json is not None:  # after each: a run that is cut short keeps what it has
                write_figures(options.json, report)
        if options.only is None:
            report |= conditions.examine_the_rest(engine, options.frames)
    refuse_replaced(model, weights, "no figures are")
    if options.json is not None:
        write_figures(options.json, report)
    print(markdown(report))
    if options.docs is not None:
        write_into(options.docs, report)


def _shown(
    frames: Callable[[], Iterator[LabelledFrame]], name: str, bar: Callable[..., Iterator[LabelledFrame]]
) -> Iterator[LabelledFrame]:
    return bar(frames(), desc=name, unit="frame")
