"""The report of a run: what a small bag holds, one file, no network, no script."""

from __future__ import annotations

import base64
import re
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("rosbags")
sys.path.insert(0, str(Path(__file__).parent))

from small_bag import S, write_bag

from exaone_ros.cli.main import main
from exaone_ros.errors import ExaoneError
from exaone_ros.view.report.charts import scatter, thinned, ticks
from exaone_ros.view.report.page import page
from exaone_ros.view.report.run import read_run, tally_of


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bag(tmp_path_factory.mktemp("run") / "bag")


class Checker(HTMLParser):
    """Collects tags, and sees to it that they are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "line"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def checked(text: str) -> Checker:
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    return checker


def test_a_bag_is_read_by_stamps(bag: Path) -> None:
    run = read_run(bag)
    assert run.camera == "/head_camera/image_raw/compressed" and len(run.images[run.camera]) == 5
    assert {kind: len(answers) for kind, answers in run.answers.items()} == {
        "detections": 3,
        "counts": 3,
        "decision": 3,
    }
    assert len(run.truth) == 5 and run.states == [(run.start_ns - 2_000_000, "/exaone/perception", "ok")]
    assert run.topics["/exaone/counts"] == ("exaone_interfaces/msg/ObjectCounts", 3)
    assert 0.3 < run.seconds < 0.5


def test_answers_are_scored_against_the_truth_of_their_image(bag: Path) -> None:
    figures = tally_of(read_run(bag)).summary()
    assert figures["mean_iou"] == pytest.approx(38 / 42, abs=1e-3) and figures["f1_50"] == 1.0
    assert figures["count_accuracy"] == pytest.approx(2 / 3, abs=1e-3) and figures["decision_accuracy"] == 1.0
    assert figures["latency_ms"]["decision: engine"] == {"p50": 120.0, "p95": 120.0}


def test_the_page_is_one_file_that_loads_nothing(bag: Path) -> None:
    text = page(read_run(bag), pictures=2)
    tags = checked(text).tags
    assert not {"script", "link", "iframe", "object", "embed"} & {tag for tag, _ in tags}
    sources = [value for _, attributes in tags for key in ("src", "href") if (value := attributes.get(key))]
    assert len(sources) == 2 and all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert "url(" not in text and re.findall(r"https?://[^\s\"']+", text) == ["http://www.w3.org/2000/svg"] * 3
    assert any("default-src 'none'" in (attributes.get("content") or "") for _, attributes in tags)
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(sources[0].partition(",")[2]), np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (96, 128, 3)
    for expected in (
        "red cube",
        "0.9048",
        "Is the way clear? clear.",
        "image stamp to bag",
        "/exaone/perception",
        "<svg",
    ):
        assert expected in text


def test_text_of_a_bag_cannot_become_markup(tmp_path: Path) -> None:
    text = page(read_run(write_bag(tmp_path / "bag", instruction='<script>alert(1)</script> & "co"')))
    assert "<script" not in text and "&lt;script&gt;alert(1)&lt;/script&gt; &amp;" in text
    checked(text)


def test_raw_images_and_no_truth(tmp_path: Path) -> None:
    text = page(read_run(write_bag(tmp_path / "bag", truth=False, raw=True)))
    assert text.count("<img") == 3 and "nothing is scored" in text


def test_the_command_writes_the_file(bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run.html"
    assert main(["report", str(bag), "--out", str(out), "--pictures", "1"]) == 0
    assert str(out) in capsys.readouterr().out and out.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert main(["report", str(next(bag.glob("*.mcap"))), "--out", str(out)]) == 0


@pytest.mark.parametrize("case", ["nothing", "broken", "cut off", "unwritable", "pictures"])
def test_what_cannot_be_reported_says_why(
    case: str, bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = {
        "nothing": [str(tmp_path)],
        "broken": [str(tmp_path / "broken")],
        "cut off": [str(tmp_path / "cut")],
        "unwritable": [str(bag), "--out", str(tmp_path / "no" / "such" / "folder.html")],
        "pictures": [str(bag), "--pictures", "-1"],
    }
    words = {"nothing": "is no bag", "broken": "cannot be read", "unwritable": "--out", "pictures": "--pictures"}
    words["cut off"] = "mcap recover"
    shutil.copytree(bag, tmp_path / "cut")
    (recording,) = (tmp_path / "cut").glob("*.mcap")
    recording.write_bytes(recording.read_bytes()[:-100])
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "metadata.yaml").write_text("rosbag2_bagfile_information: {version: 9}")
    assert main(["report", *arguments[case]]) == 1
    assert words[case] in capsys.readouterr().err


def test_a_bag_without_anything_of_ours_is_refused(bag: Path) -> None:
    run = read_run(bag)
    run.images.clear()
    run.answers.clear()
    with pytest.raises(ExaoneError, match="no images and no answers"):
        page(run)


def test_stamps_of_another_clock_are_not_plotted(bag: Path) -> None:
    run = read_run(bag)
    run.answers["detections"] = [type(a)(a.topic, a.stamp_ns - 10**6 * S, a.received_ns, a.message) for a in
                                 run.answers["detections"]]  # fmt: skip
    assert "detections: image stamp to bag" not in page(run)


def test_ticks_are_round_and_hold_the_range() -> None:
    assert ticks(0, 97) == [0, 20, 40, 60, 80, 100]
    assert ticks(0.0, 0.0) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    low, *_, high = ticks(0.013, 0.0171)
    assert low <= 0.013 and high >= 0.0171


def test_charts_of_much_and_of_nothing() -> None:
    points = [(float(i), float(i % 100 == 0) * 50) for i in range(10_000)]
    assert len(thinned(points)) <= 2001 and max(y for _, y in thinned(points)) == 50
    assert scatter("t", "s", "ms", {"a": points}).count("<circle") <= 2001
    assert "nothing recorded" in scatter("t", "s", "ms", {"a": []})


def test_answers_in_words_are_told_and_escaped(tmp_path: Path) -> None:
    run = read_run(write_bag(tmp_path / "bag", words="<b>A red cube</b> " + "and more " * 100))
    text = page(run)
    checked(text)
    assert "What was answered in words" in text and "<b>A red cube" not in text
    assert text.count("&lt;b&gt;A red cube") == 6, "three in the table, three under pictures"
    assert "answer: engine" in tally_of(run).summary()["latency_ms"]
    assert text.count(" ...<") == 6 and "and more " * 80 not in text, "long answers are cut"


def test_counts_that_are_told_again_are_scored_once(bag: Path) -> None:
    run = read_run(bag)
    before = tally_of(run).summary()["scored"]
    for kind in ("detections", "counts"):
        run.answers[kind] += run.answers[kind][:1]
    assert tally_of(run).summary()["scored"] == before


def test_without_answers_in_words_there_is_no_section(bag: Path) -> None:
    assert "What was answered in words" not in page(read_run(bag))
