"""Annotated images, the live table and the video show what they were given."""

import io
import itertools
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from rich.console import Console

from exaone_ros.tasks import Detection
from exaone_ros.view.annotate import annotate, colour_of
from exaone_ros.view.movie import write_movie
from exaone_ros.view.table import LiveState, render


@pytest.mark.parametrize("score", [0.93, math.nan])
@pytest.mark.parametrize("box", [(20.0, 30.0, 60.0, 70.0), (0.0, 0.0, 100.0, 80.0), (95.0, 75.0, 100.0, 80.0)])
def test_the_box_is_drawn_where_it_is(box: tuple[float, float, float, float], score: float) -> None:
    image = np.zeros((80, 100, 3), np.uint8)
    drawn = annotate(image, [Detection("red cube", box, score)], ["one", "two"])
    assert drawn.shape[0] > 80 and drawn.shape[1] == 100
    assert not image.any(), "the source image must stay as it was"
    x1, y2 = int(box[0]), int(box[3]) - 1
    assert tuple(drawn[y2, x1]) == colour_of("red cube")


def test_whatever_a_box_is_drawing_it_does_no_harm() -> None:
    image = np.zeros((48, 64, 3), np.uint8)
    for box in itertools.product((-1e300, 10.0, 1e12, math.inf, math.nan), repeat=4):
        assert annotate(image, [Detection("mug", box, math.nan)], truth=[box]).shape == image.shape
    tall = annotate(image, [Detection("mug", (10.0, -1e12, 30.0, 1e12), 0.5)])
    assert tall[24, 10].any() and tall[24, 29].any() and not tall[24, 40].any()


def test_all_frames_of_a_run_have_one_size() -> None:
    image = np.zeros((48, 64, 3), np.uint8)
    sizes = {annotate(image, [], ["", text]).shape for text in ("", "long " * 40)}
    assert len(sizes) == 1


def test_no_stage_is_cut_short_in_a_narrow_terminal() -> None:
    shown = io.StringIO()
    console = Console(width=80, file=shown)
    names = ["convert", "decode", "draft", "encode", "grammar", "prefill", "prefix", "preprocess", "total"]
    console.print(render(LiveState(stages_ms=dict.fromkeys(names, (100.1, 200.2)))))
    assert all(f"{name} 100.1/200.2" in shown.getvalue() for name in names)


def test_the_table_shows_answers_and_says_when_nothing_is_seen() -> None:
    console = Console(width=100, record=True, file=io.StringIO())
    state = LiveState(counts=[("", 3, 0.9)], choice="clear", options=[("clear", 0.8), ("blocked", math.nan)])
    console.print(render(state))
    state.detections = [Detection("blue mug", (1, 2, 3, 4), 0.5)]
    console.print(render(state))
    text = console.export_text()
    for part in ("nothing", "blue mug", "all objects", "clear", "p ?"):
        assert part in text


def test_the_movie_can_be_read_back(tmp_path: Path) -> None:
    frames = [np.full((64, 96, 3), 40 * i, np.uint8) for i in range(5)]
    files = write_movie(tmp_path, len(frames), lambda i: frames[i], rate_hz=5, pictures=3)
    video = cv2.VideoCapture(str(files[0]))
    assert int(video.get(cv2.CAP_PROP_FRAME_COUNT)) == 5
    pictures = [cv2.imread(str(file)) for file in files[1:]]
    assert [int(picture.mean()) for picture in pictures] == [0, 80, 160]


def test_words_are_shown_as_they_are_and_do_nothing_to_the_terminal() -> None:
    shown = io.StringIO()
    state = LiveState(
        detections=[Detection("[/red] cube", (1, 2, 3, 4), 0.5)],
        counts=[("[bold]mug", 1, 0.9)],
        options=[("[/]", 0.8)],
        said=[("what is it?", "a mug\x1b]0;title\x07\x1b[2J")],
    )
    Console(width=100, file=shown).print(render(state))
    text = shown.getvalue()
    assert all(part in text for part in ("[/red] cube", "[bold]mug", "[/]", "a mug"))
    assert "\x1b" not in text and "\x07" not in text
