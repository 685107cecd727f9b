"""The page: figures, plots and pictures of a run in one HTML file that needs no network and runs no script."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Sequence
from html import escape
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from exaone_ros import __version__
from exaone_ros.errors import ExaoneError
from exaone_ros.view.annotate import annotate
from exaone_ros.view.report.charts import Points, scatter
from exaone_ros.view.report.run import (
    Run,
    detections_of,
    duration_s,
    newest_of_each_image,
    read_pictures,
    tally_of,
)

PICTURES = 12
MAX_ROWS = 200
MAX_CAPTION = 600
"""Characters of an answer in words under a picture."""
MAX_DELAY_S = 600.0
"""A longer way from stamp to bag means that the two are of different clocks."""

STYLE = (
    "body{font:15px/1.45 system-ui,sans-serif;max-width:1000px;margin:2em auto;padding:0 1em;color:#222}"
    "table{border-collapse:collapse;margin:.6em 0}td,th{border:1px solid #ccc;padding:.25em .7em;text-align:left}"
    "td.n{text-align:right}figure{display:inline-block;margin:.4em;vertical-align:top;width:470px}"
    "figure img{width:100%}figcaption{font-size:13px;color:#555}svg text{font:12px system-ui,sans-serif}"
)


def page(run: Run, pictures: int = PICTURES) -> str:
    """The report of a run as HTML.

    Args:
        run: as read from a bag.
        pictures: how many annotated images it shows, evenly spread over the answered ones.

    Raises:
        ExaoneError: the bag holds no answers and no images.
    """
    if not run.camera and not run.answers:
        held = ", ".join(sorted(run.topics)) or "nothing"
        raise ExaoneError(f"the bag '{run.path}' holds no images and no answers of the perception node, only: {held}")
    body = [
        f"<h1>{escape(run.path.resolve().name)}</h1>",
        f"<p>{_summary(run)}</p>",
        "<h2>How right</h2>",
        _accuracy(run),
        "<h2>How fast, how fresh</h2>",
        _latencies(run),
        *_charts(run),
        "<h2>How it was doing</h2>",
        _states(run),
        "<h2>What was seen</h2>",
        *_figures(run, pictures),
        *_words(run),
        "<h2>What the bag holds</h2>",
        table(("topic", "type", "messages"), [(t, kind, n) for t, (kind, n) in sorted(run.topics.items())]),
    ]
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        # Names and answers in a bag come from elsewhere: nothing in them may load or run anything.
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">"
        f"<title>{escape(run.path.resolve().name)}</title><style>{STYLE}</style></head><body>"
        + "\n".join(body)
        + f"<p><small>Written by exaone report, exaone_ros {escape(__version__)}.</small></p></body></html>\n"
    )


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """An HTML table; numbers stand to the right, all text is escaped."""
    cells = "".join(f"<th>{escape(name)}</th>" for name in head)
    lines = [f"<tr>{cells}</tr>"]
    for row in rows:
        lines.append("<tr>" + "".join(_cell(value) for value in row) + "</tr>")
    return f"<table>{''.join(lines)}</table>"


def _cell(value: Any) -> str:
    if isinstance(value, (int, float)):
        return f'<td class="n">{value:g}</td>'
    return f"<td>{escape(str(value))}</td>"


def _summary(run: Run) -> str:
    images = len(run.images.get(run.camera, {}))
    answers = sum(len(answers) for answers in run.answers.values())
    stamps = {answer.stamp_ns for answers in run.answers.values() for answer in answers}
    camera = f"{images} images on {escape(run.camera)}" if run.camera else "no images"
    return f"{run.seconds:.1f} s; {camera}; {answers} answers on {len(stamps)} images."


def _accuracy(run: Run) -> str:
    if not run.truth:
        return "<p>The bag holds no ground truth (a topic <code>ground_truth/detections</code>): nothing is scored.</p>"
    figures = tally_of(run).summary()
    names = {
        "mean_iou": "mean IoU of true objects (a missed one counts 0)",
        "f1_50": "F1 at IoU 0.5 with the right label",
        "count_accuracy": "counts that are exact",
        "decision_accuracy": "decisions that are right",
    }
    scored = {"mean_iou": "objects", "f1_50": "objects", "count_accuracy": "counts", "decision_accuracy": "decisions"}
    rows = [
        (text, "not scored" if figures[name] is None else figures[name], figures["scored"][scored[name]])
        for name, text in names.items()
    ]
    return table(("", "value", "of"), rows)


def _latencies(run: Run) -> str:
    rows = [(stage, v["p50"], v["p95"]) for stage, v in tally_of(run).summary()["latency_ms"].items()]
    for kind, points in _delays(run).items():
        if points:
            values = [y for _, y in points]
            both = [round(float(np.percentile(values, share)), 1) for share in (50, 95)]
            rows.append((f"{kind}: image stamp to bag", both[0], both[1]))
    return table(("", "p50 [ms]", "p95 [ms]"), rows) if rows else "<p>No answers.</p>"


def _delays(run: Run) -> dict[str, Points]:
    """(time in s, image stamp to recording in ms) of each answer, where both are of one clock."""
    start = run.start_ns
    return {
        kind: [
            ((answer.received_ns - start) * 1e-9, (answer.received_ns - answer.stamp_ns) * 1e-6)
            for answer in answers
            if 0 <= answer.received_ns - answer.stamp_ns <= MAX_DELAY_S * 1e9
        ]
        for kind, answers in run.answers.items()
    }


def _charts(run: Run) -> list[str]:
    start = run.start_ns
    engine: dict[str, Points] = {
        kind: [((a.received_ns - start) * 1e-9, duration_s(a.message.latency) * 1e3) for a in run.answers[kind]]
        for kind in ("counts", "decision", "answer")
        if kind in run.answers
    }
    arrivals = sorted(run.images.get(run.camera, {}).values())
    gaps = [((b - start) * 1e-9, (b - a) * 1e-6) for a, b in pairwise(arrivals)]
    return [
        scatter("From image to answer", "s", "image stamp to bag [ms]", _delays(run)),
        scatter("Engine", "s", "engine [ms]", engine),
        scatter("Camera", "s", "between images [ms]", {"camera": gaps}),
    ]


def _states(run: Run) -> str:
    if not run.states:
        return "<p>The bag holds no diagnostics.</p>"
    rows = [(round((at - run.start_ns) * 1e-9, 1), node, state) for at, node, state in run.states[:MAX_ROWS]]
    return table(("s", "node", "state from then on"), rows)


def _figures(run: Run, number: int) -> list[str]:
    """Annotated pictures of answered images."""
    by_stamp = {answer.stamp_ns: answer for answer in run.answers.get("detections", ())}
    stamps = sorted(set(by_stamp) & set(run.images.get(run.camera, {})))
    if not stamps or number < 1:
        return ["<p>No image of an answer is in the bag.</p>"]
    chosen = {stamps[i] for i in np.linspace(0, len(stamps) - 1, min(number, len(stamps))).round().astype(int)}
    found = read_pictures(run, chosen)
    out = []
    for stamp_ns in sorted(found):
        detections = detections_of(by_stamp[stamp_ns].message)
        truth = [thing.box for thing in run.truth.get(stamp_ns, ())]
        seconds = (run.images[run.camera][stamp_ns] - run.start_ns) * 1e-9
        picture = _data_uri(annotate(found[stamp_ns], detections, (), truth))
        caption = escape(f"{seconds:.1f} s. " + " ".join(_told(run, stamp_ns, detections)))
        out.append(f'<figure><img alt="" src="{picture}"><figcaption>{caption}</figcaption></figure>')
    left_out = len(chosen) - len(found)
    return out + ([f"<p>{left_out} pictures could not be decoded.</p>"] if left_out else [])


def _words(run: Run) -> list[str]:
    """Questions that were answered in words, the first `MAX_ROWS` of them; nothing where there are none."""
    answers = run.answers.get("answer", [])
    if not answers:
        return []
    rows = [
        (
            round((answer.received_ns - run.start_ns) * 1e-9, 1),
            answer.message.question,
            _cut(answer.message.text or answer.message.message),
        )
        for answer in answers[:MAX_ROWS]
    ]
    more = f"<p>{len(answers) - MAX_ROWS} more are left out.</p>" if len(answers) > MAX_ROWS else ""
    return ["<h2>What was answered in words</h2>", table(("s", "question", "answer"), rows), more]


def _told(run: Run, stamp_ns: int, detections: Sequence[Any]) -> list[str]:
    labels = Counter(detection.label for detection in detections)
    told = [
        "Seen: " + (", ".join(f"{n} x {label}" if n > 1 else label for label, n in labels.items()) or "nothing") + "."
    ]
    for answer in newest_of_each_image(run.answers.get("counts", ())):
        if answer.stamp_ns == stamp_ns:
            told += [f"Count of {entry.label or 'everything'}: {entry.count}." for entry in answer.message.counts]
    for answer in run.answers.get("decision", ()):
        if answer.stamp_ns == stamp_ns:
            told.append(f"{answer.message.instruction} {answer.message.choice or 'no decision'}.")
    for answer in run.answers.get("answer", ()):
        if answer.stamp_ns == stamp_ns:
            told.append(f"{answer.message.question} {_cut(answer.message.text) or 'no answer'}")
    return told


def _cut(text: str) -> str:
    """An answer in words as far as it fits under a picture."""
    return text if len(text) <= MAX_CAPTION else text[:MAX_CAPTION].rstrip() + " ..."


def _data_uri(picture: NDArray[np.uint8]) -> str:
    ok, jpeg = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 82])
    if not ok:
        raise ExaoneError(f"OpenCV {cv2.__version__} cannot encode a picture of {picture.shape} as JPEG")
    return "data:image/jpeg;base64," + base64.b64encode(jpeg.tobytes()).decode()
