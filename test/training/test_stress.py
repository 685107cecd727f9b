"""Where a checkpoint breaks: changed frames are what they say, labels stay exact, answers are held to them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from exaone_ros.errors import CheckpointError
from exaone_ros.sim.frame import LabelledFrame
from exaone_ros.sim.sampling import SceneOptions, sample_scene
from exaone_ros.sim.tabletop import TabletopRenderer
from exaone_ros.tasks import Count, Counted, Decide, Decided, Detection, Ground, Grounding, Task
from exaone_ros.training import cli, stress, stress_report
from exaone_ros.training.card import write_card
from exaone_ros.training.changed_scenes import Strange, StrangeRenderer, strange_frames
from exaone_ros.training.measured import write_figures
from exaone_ros.training.splits import HELD_OUT_PAIRS, STRESSED_FROM, frame_seed
from exaone_ros.training.stress_pictures import empty_pictures, jpeg, kept, padded, swapped
from exaone_ros.training.stress_report import read_stress
from exaone_ros.training.stress_words import COLOURS, NAMINGS, SHAPES, WAYS

CHANGED = {n: c for n, c in stress.CONDITIONS.items() if c.picture is not kept and c.strange == Strange()}
RENDERED = {n: c.strange for n, c in stress.CONDITIONS.items() if c.picture is kept and c.strange != Strange()}


def small(strange: Strange) -> Strange:
    return replace(strange, width=strange.width // 4, height=strange.height // 4)


@pytest.mark.parametrize("name", CHANGED)
def test_a_changed_picture_is_another_one_of_the_same_size_and_the_same_each_time(name: str) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    before = picture.copy()
    changed = CHANGED[name].picture(picture, 3)
    assert changed.shape == picture.shape and changed.dtype == np.uint8 and changed.flags.c_contiguous
    assert np.array_equal(changed, CHANGED[name].picture(picture, 3))
    assert not np.array_equal(changed, picture)
    assert np.array_equal(picture, before)


def test_compression_keeps_red_red_and_swapping_does_not() -> None:
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 200
    assert jpeg(90)(red, 0)[16, 16, 0] > 150
    assert swapped(red, 0)[16, 16].tolist() == [0, 0, 200]


def test_a_padded_picture_keeps_its_pixels_where_they_were() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (64, 48, 3), dtype=np.uint8)
    for turned, size in ((picture, (64, 85)), (picture.transpose(1, 0, 2), (48, 64)), (picture[:12], (36, 48))):
        wide = padded(4 / 3)(turned, 0)
        assert wide.shape[:2] == size and wide.dtype == np.uint8
        assert np.array_equal(wide[: turned.shape[0], : turned.shape[1]], turned)
        assert (wide[turned.shape[0] :] == 128).all() and (wide[:, turned.shape[1] :] == 128).all()


@pytest.fixture(scope="module")
def unchanged() -> list[LabelledFrame]:
    pytest.importorskip("mujoco")
    return list(strange_frames(small(Strange()), 2))


@pytest.mark.parametrize("name", RENDERED)
def test_a_changed_scene_looks_otherwise_and_is_labelled(name: str, unchanged: list[LabelledFrame]) -> None:
    strange = small(RENDERED[name])
    _, frame = strange_frames(strange, 2)  # the first scene's table is empty
    assert frame.image.shape == (strange.height, strange.width, 3)
    assert not np.array_equal(frame.image, unchanged[1].image)
    assert frame.objects
    for index, thing in enumerate(frame.objects):
        rows, columns = np.nonzero(frame.instance == index)
        assert thing.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


def test_unchanged_frames_are_the_simulators_of_validation_seeds_of_their_own(unchanged: list[LabelledFrame]) -> None:
    seeds = [frame_seed("validation", STRESSED_FROM + index) for index in range(2)]
    with TabletopRenderer(160, 120) as renderer:
        for frame, seed in zip(unchanged, seeds, strict=True):
            same = renderer.render(seed, SceneOptions(exclude_pairs=HELD_OUT_PAIRS))
            assert np.array_equal(frame.image, same.image)


@pytest.mark.parametrize("name", ["camera rolled by 15 degrees", "stacked in pairs", "cylinders and mugs lying"])
def test_a_frame_does_not_depend_on_those_before_it(name: str) -> None:
    pytest.importorskip("mujoco")
    first, second = strange_frames(small(RENDERED[name]), 2)
    with StrangeRenderer(small(RENDERED[name])) as renderer:
        for index, frame in ((1, second), (0, first)):
            again = renderer.render_strange(frame_seed("validation", STRESSED_FROM + index))
            assert np.array_equal(again.image, frame.image)


def test_objects_are_stacked_and_lie_on_their_sides() -> None:
    pytest.importorskip("mujoco")
    scene = sample_scene(np.random.default_rng(1), SceneOptions(objects=(8, 8)))
    width = 7

    def place(index: int) -> slice:
        return slice(width * index, width * (index + 1))

    upright = np.concatenate([(*thing.centre_m, 1.0, 0.0, 0.0, 0.0) for thing in scene.objects])
    for name in ("stacked in pairs", "cylinders and mugs lying"):
        poses, change = upright.copy(), RENDERED[name].poses
        assert change is not None
        change(poses, scene, place)
        for index, thing in enumerate(scene.objects):
            before, after = upright[place(index)], poses[place(index)]
            below = scene.objects[index - 1]
            if name == "stacked in pairs" and index % 2 and below.shape in ("cube", "cylinder"):
                assert after[:2].tolist() == [below.x_m, below.y_m]
                assert after[2] == pytest.approx(0.8 + below.height_m + thing.height_m / 2)
            elif name != "stacked in pairs" and thing.shape in ("cylinder", "mug"):
                assert after[2] == pytest.approx(0.8 + thing.radius_m)
                w, x, y, z = after[3:]
                assert w * w + x * x + y * y + z * z == pytest.approx(1.0)
                assert w * w - x * x - y * y + z * z == pytest.approx(0.0), "its axis is level"
            else:
                assert after.tolist() == before.tolist()


class Knowing:
    """An engine that knows some words only: it finds what is called by them, and nothing else."""

    def __init__(self, frames: Sequence[LabelledFrame]) -> None:
        self._frames = {id(frame.image): frame for frame in frames}

    def answer(self, image: np.ndarray, tasks: Sequence[Task]) -> Any:
        return SimpleNamespace(answers=[SimpleNamespace(result=self._result(image, task)) for task in tasks])

    def _result(self, image: np.ndarray, task: Task) -> Any:
        frame = self._frames.get(id(image))
        if isinstance(task, Decide):
            return Decided(task.options[0], task.options, ())
        if isinstance(task, Count):
            return Counted(task.label, 0, 1.0)
        assert isinstance(task, Ground)
        things = [t for t in frame.objects if (f"{t.colour} {t.shape}",) == task.classes] if frame is not None else []
        return Grounding(tuple(Detection(task.classes[0], thing.box, 0.9) for thing in things))


def test_words_are_held_to_the_truth_one_by_one(unchanged: list[LabelledFrame]) -> None:
    words = stress.examine_words(Knowing(unchanged), unchanged)
    known = words.pop("red cube (as trained)")
    assert known["found"]["value"] == known["absent"]["value"] == 1.0 and known["found"]["n"] > 0
    assert {entry["found"]["value"] for entry in words.values()} == {0.0}
    assert {entry["absent"]["value"] for entry in words.values()} == {1.0}
    ways = stress.examine_ways(Knowing(unchanged), unchanged)
    assert list(ways) == list(WAYS)
    for entry in ways.values():
        assert 0 <= entry["value"] <= 1 and entry["n"] == len(unchanged)


def test_no_name_is_that_of_another_thing() -> None:
    for _, naming in NAMINGS.values():
        names = {naming(colour, shape) for colour in COLOURS for shape in SHAPES}
        assert len(names) == len(COLOURS) * len(SHAPES)
    _, synonym = NAMINGS["red block, sphere, can, cup"]
    assert [synonym("red", shape) for shape in SHAPES] == ["red block", "red sphere", "red can", "red cup"]


def test_nothing_is_told_of_pictures_of_nothing() -> None:
    told = stress.examine_empty(Knowing([]))
    assert list(told) == list(empty_pictures())
    assert {(entry["boxes"], entry["red_cubes"], entry["count"]) for entry in told.values()} == {(0, 0, 0)}
    assert stress_report.markdown({"conditions": {}, "empty": told}).count("| 0 |  | 0 | 0 | clear |") == len(told)


def figure(value: float, low: float, high: float) -> dict[str, float]:
    return {"value": value, "interval": (high - low) / 2, "low": low, "high": high, "n": 24}


REPORT = {
    "model": "mine",
    "weights": "ab" * 32,
    "split": "validation",
    "frames": 24,
    "conditions": {
        "unchanged": {"absent": figure(0.9, 0.7, 1.0), "list_f1": figure(0.9, 0.8, 1.0)},
        "grey": {"absent": figure(0.8, 0.6, 0.95), "list_f1": figure(0.3, 0.1, 0.5)},
        "160x120": {"absent": figure(0.2, 0.1, 0.71)},
    },
    "words": {"Red cube": {"found": figure(0.1, 0.0, 0.2), "absent": figure(1.0, 0.9, 1.0)}},
    "ways": {"A, B, C": figure(0.4, 0.3, 0.5)},
    "empty": {"black": {"boxes": 2, "best_score": 0.5, "red_cubes": 1, "count": 3, "way": "clear"}},
}


def test_a_card_shows_what_is_clearly_worse_and_names_the_rest() -> None:
    assert stress_report.breaking(REPORT) == {"grey": ["list_f1"]}
    brief = stress_report.brief(REPORT)
    assert "| unchanged |  | 0.90 ± 0.10 |" in brief and "| grey |  | 0.30 ± 0.20 |" in brief
    assert "| 160x120 |" not in brief and "Not clearly worse in any of these: 160x120." in brief
    assert "| 160x120 |" in stress_report.markdown(REPORT)
    for row in ("| Red cube | 0.10", "| A, B, C | 0.40", "| black | 2 | 0.50 | 1 | 3 | clear |"):
        assert row in brief and row in stress_report.markdown(REPORT)


def test_a_card_shows_what_breaks_only_of_the_weights_it_is_about(tmp_path: Path) -> None:
    tables = {"mujoco": {"absent": figure(0.9, 0.8, 1.0)}}
    report = {"model": "mine", "weights": "ab" * 32, "frames": 9, "tables": tables}
    card = tmp_path / "README.md"
    write_card(card, report, "", 1, None, REPORT)
    text = card.read_text()
    assert '24 scenes of the split "validation" under 2 changes' in text and "| grey |" in text
    assert "## Where it breaks" in text and "a\ndevelopment set, not a held-out one" in text
    assert "words outside of the wordings" not in text
    write_card(card, report, "", 1)
    assert "Where it breaks" not in card.read_text() and "words outside of the wordings" in card.read_text()
    with pytest.raises(CheckpointError, match=r"stress.json holds figures of another model .*run `stress --model"):
        write_card(card, report | {"weights": "cd" * 32}, "", 1, None, REPORT)


def test_a_report_that_was_cut_short_is_none(tmp_path: Path) -> None:
    file = tmp_path / "stress.json"
    assert read_stress(file) is None
    write_figures(file, REPORT)
    assert read_stress(file) == REPORT
    for part in ("words", "split"):
        write_figures(file, {key: value for key, value in REPORT.items() if key != part})
        expected = rf"no whole report of `stress`; measure again without --only, or delete it \(missing: {part}\)"
        with pytest.raises(CheckpointError, match=expected):
            read_stress(file)


def test_tables_are_written_into_a_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{stress_report.BEGIN} old {stress_report.END}\nafter\n")
    stress_report.write_into(page, REPORT)
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and " old " not in text
    assert "`mine` (weights `abababababababab`), 24 scenes of the split 'validation' under each condition" in text
    assert "| grey |" in text


def test_the_command_writes_what_it_shows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("mujoco")
    file = tmp_path / "stress.json"
    names = ["unchanged", "grey"]
    assert cli.main(["stress", "--frames", "1", "--threads", "1", "--json", str(file), "--only", *names]) == 0
    report = json.loads(file.read_text())
    assert list(report["conditions"]) == names and (report["split"], report["frames"]) == ("validation", 1)
    assert len(report["weights"]) == 64
    shown = capsys.readouterr().out
    assert all(f"| {name} | " in shown for name in names)
    assert report["conditions"]["grey"]["decide_way"]["n"] == 1
