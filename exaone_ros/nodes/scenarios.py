"""Stories with a robot in them: each drives the simulator and judges the perception node by its topics.

A story takes a `ClosedLoop`, prints nothing, raises `LoopError` where something is not as it should be, and returns
what it measured. The thresholds say what the loop must do whatever checkpoint answers; how well it answers is in the
figures.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from exaone_ros.ros.closed_loop import ClosedLoop, Glimpse, Labelled, LoopError
from exaone_ros.ros.messages import time_to_ns
from exaone_ros.sim.score import iou
from exaone_ros.tasks import Count, Decide, Ground

VALIDATION_SEED = 1_000_000_000
"""First seed of the frames that training never sees (`training.splits`); here it stands for light and room."""

WAY = Decide(name="way", instruction="Is the way clear?", options=("clear", "blocked", "person"))
PERSON_PLACE_M = (1.28, 0.05, math.pi)
"""Behind the table, looking at the robot."""
MAX_AGE_S = 1.0
"""The perception node's max_age_s."""


@dataclass
class Report:
    """What a story has measured.

    Attributes:
        story: its name.
        figures: in the order in which they are to be printed.
        latencies_s: wall time from the request to draw an image to the last answer to it.
    """

    story: str
    figures: dict[str, float | int | str] = field(default_factory=dict)
    latencies_s: list[float] = field(default_factory=list)

    def saw(self, glimpse: Glimpse) -> Glimpse:
        """Note how long a look took."""
        self.latencies_s.append(glimpse.wall_s)
        return glimpse

    def lines(self) -> list[str]:
        """As text, a line for each figure."""
        lines = [
            f"{key}: {round(value, 3) if isinstance(value, float) else value}" for key, value in self.figures.items()
        ]
        if self.latencies_s:
            middle, longest = statistics.median(self.latencies_s), max(self.latencies_s)
            looks = len(self.latencies_s)
            lines.append(f"image to answer in wall time: median {middle:.3f} s, longest {longest:.3f} s, {looks} looks")
        return lines


def find(loop: ClosedLoop) -> Report:
    """The head pans until it finds what the instruction names, and looks straight at it; then another instruction."""
    report = Report("find")
    _empty_table(loop, 11)
    places = {"red cube": (0.66, 0.16), "blue ball": (0.68, -0.17)}
    for label, (x_m, y_m) in places.items():
        loop.simulator.place(label, x_m, y_m)
    overlaps = []
    for label in places:
        loop.ask(Ground(name="named", classes=(label,)))
        seen = _search(loop, report, label)
        (found,), (true,) = _of(seen.detections, label), _of(seen.truth, label)
        overlaps.append(iou(found.box, true.box))
        info = loop.camera_info
        assert info is not None
        off_px = abs(_centre_x(true.box) - info.width / 2)
        if off_px > 0.12 * info.width:
            raise LoopError(f"the head looks {off_px:.0f} px beside the {label}; expected 12% of the width at most")
        if overlaps[-1] < 0.5:
            raise LoopError(f"the box of the {label} has IoU {overlaps[-1]:.2f} with the truth; expected 0.5 or more")
        report.figures[f"{label}: px beside the middle"] = off_px
        report.figures[f"{label}: IoU"] = overlaps[-1]
    report.figures["looks"] = len(report.latencies_s)
    return report


def count(loop: ClosedLoop) -> Report:
    """Objects appear and vanish; the answer to the next image is about what is there then."""
    report = Report("count")
    _empty_table(loop, 12)
    loop.ask(Count(name="all", label=""))
    appearing = (("red cube", 0.60, 0.18), ("blue mug", 0.62, -0.16), ("yellow ball", 0.75, 0.02))
    right: list[bool] = []
    names: list[str] = []

    def judge() -> None:
        glimpse = report.saw(loop.look())
        right.append(glimpse.count() == len(glimpse.truth))
        if len(glimpse.truth) != len(names):
            raise LoopError(f"the truth shows {len(glimpse.truth)} objects; {len(names)} are on the table")

    judge()
    for label, x_m, y_m in appearing:
        names.append(loop.simulator.place(label, x_m, y_m))
        judge()
    while names:
        loop.simulator.remove(names.pop(0))
        judge()
    share = sum(right) / len(right)
    report.figures |= {"changes": len(right) - 1, "right on the very next image": sum(right), "accuracy": share}
    if share < 0.6:
        raise LoopError(f"{sum(right)} of {len(right)} counts are right; expected 0.6 of them or more")
    return report


def way(loop: ClosedLoop) -> Report:
    """A robot that waves its arm holds still while a person is there, and goes on when the way is clear."""
    report = Report("way")
    _empty_table(loop, 13)
    loop.ask(WAY)
    right: list[bool] = []
    target = -1.1

    def act(expected: str, periods: int, settling: int) -> float:
        """Do what the answers say; returns how far the elbow has moved after the first periods, in radians."""
        nonlocal target
        elbow = []
        for period in range(periods):
            glimpse = report.saw(loop.look())
            right.append(glimpse.choice == expected)
            if period >= settling:
                elbow.append(loop.joint("right_elbow", glimpse.stamp_ns))
            if glimpse.choice == "clear":
                target = -1.6 if target == -1.1 else -1.1
                loop.command("right_elbow", target, within_s=0.1)
        return max(elbow) - min(elbow)

    waving_rad = act("clear", 4, settling=1)
    loop.simulator.place("person", *PERSON_PLACE_M)
    still_rad = act("person", 6, settling=4)
    loop.simulator.remove("person")
    again_rad = act("clear", 4, settling=1)
    report.figures |= {
        "right on the very next image": sum(right), "looks": len(right), "waving, rad": waving_rad,
        "holding still, rad": still_rad, "waving again, rad": again_rad,
    }  # fmt: skip
    if not all(right):
        raise LoopError(f"{right.count(False)} of {len(right)} decisions are wrong; expected none")
    if still_rad > 0.02 or min(waving_rad, again_rad) < 0.1:
        raise LoopError(
            f"the elbow moved by {waving_rad:.3f} rad, with a person in front by {still_rad:.3f}, then by "
            f"{again_rad:.3f}; expected more than 0.1, less than 0.02, and more than 0.1"
        )
    return report


def faults(loop: ClosedLoop) -> Report:
    """The camera repeats itself, stalls, freezes, goes black: old images are not answered, and diagnostics say why."""
    report = Report("faults")
    _empty_table(loop, 14)
    loop.ask(WAY)
    _expect(report.saw(loop.look()), "clear")
    before = loop.answered_stamps("decision")

    loop.fault("repeated")
    loop.simulator.step(duration_s=0.5)
    loop.diagnostics("dropped.repeated_stamp", lambda number: int(number) >= 1, "an image that was dropped as repeated")
    loop.simulator.step(duration_s=2.0)
    loop.diagnostics("dropped.stale", lambda number: int(number) >= 1, "an image that was dropped as stale")
    loop.fault("stalled")
    loop.simulator.step(duration_s=1.0)
    loop.diagnostics("state", lambda state: state == "stale_camera", "the state stale_camera")
    if loop.answered_stamps("decision") != before:
        raise LoopError("images were answered that the camera had delivered before")
    report.figures["answers while the camera repeated itself or stalled"] = 0

    # Pixels that stand still under fresh stamps cannot be told from a scene that stands still: they are answered, each
    # with its own stamp. A person who comes now is not seen.
    loop.fault("frozen")
    loop.simulator.place("person", *PERSON_PLACE_M)
    report.figures["frozen, with a person in front"] = report.saw(loop.look()).choice
    loop.fault("black")
    report.figures["black"] = report.saw(loop.look()).choice
    loop.fault("none")
    _expect(report.saw(loop.look()), "person")
    # Diagnostics come once a second; a camera that paused meanwhile would be a stale one again.
    loop.look_until(lambda: loop.diagnostic("state") == "ok", "the state ok")
    report.figures["right on the first good image"] = 1
    return report


def moved(loop: ClosedLoop) -> Report:
    """Things move between images that follow one another at once: each answer is about the image whose stamp it has."""
    report = Report("moved")
    _empty_table(loop, 15)
    places = ((0.62, 0.20), (0.66, -0.20))
    cube = loop.simulator.place("red cube", *places[0])
    loop.ask(Ground(name="named", classes=("red cube",)), WAY)
    stamps = []
    for turn in range(6):
        loop.simulator.move(cube, *places[turn % 2])
        stamps.append((loop.simulator.step(duration_s=0.1).stamp_ns, turn % 2))
    last_ns = stamps[-1][0]
    loop.wait(lambda: last_ns in loop.answered_stamps("detections") or None, "the answer to the last image")
    answered = set(loop.answered_stamps("detections"))
    own, other = [], []
    for stamp_ns, place in stamps:
        if stamp_ns not in answered:
            continue  # it gave way to a newer one
        glimpse = loop.glimpse(stamp_ns)
        elsewhere = next(s for s, where in stamps if where != place)
        truth, wrong = _of(glimpse.truth, "red cube"), _of(loop.glimpse(elsewhere).truth, "red cube")
        own += [iou(found.box, truth[0].box) for found in glimpse.detections]
        other += [iou(found.box, wrong[0].box) for found in glimpse.detections]
    if not own or statistics.mean(own) < 0.5 or max(other) > 0.3:
        raise LoopError(
            f"IoU with the truth of the answer's own image is {_rounded(own)}, with the other place {_rounded(other)}; "
            "expected a mean of 0.5 or more, and 0.3 at most"
        )
    # Two seconds pass while an image waits for its answer: the answer comes in time or not at all.
    stamp_ns = loop.simulator.step(duration_s=0.1).stamp_ns
    loop.simulator.step(duration_s=2.0)
    report.saw(loop.look())
    ages_s = [time_to_ns(message.age) * 1e-9 for message in _decisions(loop, since_ns=stamp_ns)]
    if max(ages_s) > MAX_AGE_S:
        raise LoopError(f"an answer was {max(ages_s):.2f} s old; expected {MAX_AGE_S:g} s at most")
    report.figures |= {
        "images": len(stamps), "answered": len(own), "mean IoU with its own image": statistics.mean(own),
        "most IoU with the other place": max(other), "oldest answer, simulated s": max(ages_s),
    }  # fmt: skip
    return report


STORIES: dict[str, Callable[[ClosedLoop], Report]] = {
    "find": find,
    "count": count,
    "way": way,
    "faults": faults,
    "moved": moved,
}


def _empty_table(loop: ClosedLoop, number: int) -> None:
    """A room and a light that training has not seen, and nothing in it; the head straight."""
    loop.fault("none")
    left = loop.simulator.load_scene(VALIDATION_SEED + number)
    for name in left:
        loop.simulator.remove(name)
    loop.turn("head_pan", 0.0)


def _search(loop: ClosedLoop, report: Report, label: str) -> Glimpse:
    """Pan from side to side; where it is found, turn there and look again."""
    for pan in (-0.5, -0.35, -0.2, -0.05, 0.1, 0.25, 0.4, 0.0):
        loop.turn("head_pan", pan)
        glimpse = report.saw(loop.look())
        for _ in range(4):  # what was seen is brought to the middle, a little nearer with each look
            found = _of(glimpse.detections, label)
            if len(found) != 1:
                break
            info = loop.camera_info
            assert info is not None
            off_px = _centre_x(found[0].box) - info.width / 2
            if abs(off_px) < 0.06 * info.width:
                return glimpse
            pan = max(-1.2, min(1.2, pan - math.atan2(off_px, info.k[0])))
            loop.turn("head_pan", pan)
            glimpse = report.saw(loop.look())
    raise LoopError(f"the {label} was not found, though the head panned over all of the table")


def _of(things: Iterable[Labelled], label: str) -> list[Labelled]:
    return [thing for thing in things if thing.label == label]


def _centre_x(box: tuple[float, float, float, float]) -> float:
    return (box[0] + box[2]) / 2


def _expect(glimpse: Glimpse, choice: str) -> None:
    if glimpse.choice != choice:
        at_s = glimpse.stamp_ns * 1e-9
        raise LoopError(f"the decision on the image of {at_s:.3f} s is {glimpse.choice!r}; expected {choice!r}")


def _decisions(loop: ClosedLoop, since_ns: int) -> list[Any]:
    stamps = [stamp_ns for stamp_ns in loop.answered_stamps("decision") if stamp_ns >= since_ns]
    return [loop.glimpse(stamp_ns).answers["decision"] for stamp_ns in stamps]


def _rounded(values: list[float]) -> list[float]:
    return [round(value, 2) for value in values]
