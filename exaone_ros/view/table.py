"""The live table of a run in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from exaone_ros.tasks import Detection
from exaone_ros.tasks.base import one_line


@dataclass
class LiveState:
    """What the table shows: the newest answers and how the run goes. Written by one thread, read by another.

    `said` holds the newest answer in words of each task that gives such: (question, text).
    """

    elapsed_s: float = 0.0
    frames: int = 0
    answers: int = 0
    detections: Sequence[Detection] = ()
    counts: Sequence[tuple[str, int, float]] = ()
    choice: str = ""
    options: Sequence[tuple[str, float]] = ()
    reason: str = ""
    instruction: str = ""
    said: Sequence[tuple[str, str]] = ()
    age_ms: float = float("nan")
    latency_ms: float = float("nan")
    health: str = "starting"
    stages_ms: dict[str, tuple[float, float]] = field(default_factory=dict)


def render(state: LiveState) -> RenderableType:
    """The table for `rich.live.Live`; pure, so that it can be tested as text."""
    seen = Table(expand=True, box=None, header_style="bold")
    seen.add_column("seen")
    seen.add_column("score", justify="right")
    seen.add_column("box x1 y1 x2 y2 [px]", justify="right")
    for detection in list(state.detections)[:10]:
        seen.add_row(_said(detection.label), f"{detection.score:.2f}", " ".join(f"{v:4.0f}" for v in detection.box))
    if not state.detections:
        seen.add_row("nothing", "", "")
    judged = Table.grid(padding=(0, 2))
    for label, number, probability in state.counts:
        judged.add_row("count", _said(label or "all objects"), f"{number}", f"p {probability:.2f}")
    for option, probability in state.options:
        mark = "->" if option == state.choice else ""
        judged.add_row("decision" if mark else "", _said(option), mark, _bar(probability))
    stages = Columns([f"{name} {p50:.1f}/{p95:.1f}" for name, (p50, p95) in state.stages_ms.items()], padding=(0, 3))
    head = Text(
        f"{state.elapsed_s:5.1f} s   frames {state.frames}   answers {state.answers}   "
        f"age {state.age_ms:.0f} ms   engine {state.latency_ms:.0f} ms   {state.health}"
    )
    parts: list[RenderableType] = [head, seen]
    if judged.row_count:
        parts.append(judged)
    if state.reason:
        parts.append(_said(f"{state.instruction}  {state.choice}: {state.reason}", "italic"))
    parts += [_said(f"{question}  {text}", "italic") for question, text in list(state.said)[:5]]
    if state.stages_ms:
        parts += [Text("stage p50/p95 [ms]", style="bold"), stages]
    return Panel(Group(*parts), title="exaone_ros demo", title_align="left")


def _said(words: str, style: str = "") -> Text:
    """Words of users and of the model as they are: no markup of rich, and no control sequence of the terminal."""
    return Text(one_line(words), style=style)


def _bar(probability: float, width: int = 20) -> Text:
    if probability != probability:  # NaN: the engine gave none
        return Text("p ?")
    full = round(max(0.0, min(1.0, probability)) * width)
    return Text("#" * full + "." * (width - full) + f" {probability:.2f}")
