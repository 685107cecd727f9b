"""The benchmark's figures as a page of documentation."""

from __future__ import annotations

from typing import Any

from exaone_ros.bench import cameras, propagation
from exaone_ros.training import acceptance

TARGET_IMAGE = "640x480"


def markdown(results: dict[str, Any]) -> str:
    """The whole of docs/benchmarks.md; pure."""
    machine = results["machine"]
    three, overhead, memory = results["three_questions"], results["ros_overhead_ms"], results["memory_mb"]
    control = results["control_loop_ms"]
    three_rows = [f"| {stage} | {v['p50']} | {v['p95']} |" for stage, v in three["stages_ms"].items()]
    return f"""\
# Benchmarks

Written by `make bench` on {machine["date"]}: {machine["cpu"]}, {machine["cores"]} cores, {machine["system"]},
Python {machine["python"]}, ROS 2 {machine["ros"]}, no GPU. Machines like this one are shared and noisy: trust the
ratios, which were measured side by side in one run, more than the milliseconds.

{_targets(results)}
## Three questions on one frame

Locate every object, count all objects, decide whether the way is clear. Bundled checkpoint, held-out frames of the
simulated head camera (640x480), greedy, fp32, {machine["threads"]} threads. `transformers` is used as its documentation
shows it: image processor, chat template and one `generate()` for each question.

| | ms per frame (median) | peak memory of the process |
|---|---|---|
| exaone_ros, onnxruntime backend | {three["ours_ms"]} | {three["peak_memory_mb"]["ours"]} MB |
| transformers `generate()` | {three["transformers_ms"]} | {three["peak_memory_mb"]["transformers"]} MB |

Ratio, frame by frame: median **{three["ratio"]}**, smallest {three["ratio_min"]} ({three["frames"]} frames).
On the same pixels {three["answers_equal"]} of {three["answers_compared"]} answers are identical to the last character.
{three["answers_asked"] - three["answers_compared"]} more were asked and not compared: there `transformers`, which
has no grammar, wrote what the task's schema does not allow. With each side's own resizing of the 640x480 frame
(half a grey level apart) {three["answers_equal_own_resize"]} of {three["answers_asked"]} are identical.

| stage of exaone_ros | p50 ms | p95 ms |
|---|---|---|
{_lines(three_rows)}

{_promises(results)}
{_drafts(results["drafts"])}
{_demo(results["demo"])}
## ROS overhead

The perception node looks at a 30 Hz camera and counts ten times a second, so that the engine is idle when an image
comes; images come from, and answers go to, another process. Image stamp to engine start plus engine end to message
received, the engine's own time left out.

| image | overhead p50 / p95 ms | stamp to engine | engine to receiver | answers |
|---|---|---|---|---|
{_lines([_overhead_row(size, values) for size, values in overhead.items()])}

## Several cameras

One count on each 640x480 frame that the engine can take, of one, two and four cameras at 15 Hz that take turns on one
model; the images come from another process. CPU is that of the perception node, all its threads; 100 % is one core.

{cameras.HEAD}
{_lines(cameras.rows(results["cameras"]))}

## Boxes between looks

Mean IoU with the truth on every image of a 30 Hz camera while the simulated head sweeps; looks without mistakes, late
as given. An object without a box counts 0. Held: the newest look's boxes stay where they were.

{propagation.HEAD}
{_lines(propagation.rows(results["propagation"]))}

## Memory of the perception node

Resident memory over {memory["frames"]} answered frames: {memory["start"]} MB in the first tenth, {memory["end"]} MB
in the last.

## Control loop

The action head commands at 30 Hz, a period of {control[0]["period_ms"]} ms, while the simulator renders 10 images per
second and perception answers three questions on every frame that it can take; then the same with `loop_priority: 0`,
and without perception. Jitter is the distance from one period: of the loop's own ticks (the worst p95 of 10 s), and of
the commands where another process, scheduled as any, receives them. The emergency stop is timed from its message, sent
by that process, to the first command that holds, received there.

| perception | loop's thread | jitter p95 ms | arrival jitter p50 / p95 | stop to hold p50 / p95 / max | in one period |
|---|---|---|---|---|---|
{_lines([_control_row(values) for values in control])}

## Not measured

Any GPU, TensorRT on a GPU, and the 33B weights: none of them was at hand.
"""


def _targets(results: dict[str, Any]) -> str:
    """Each figure that has a target, and whether this run met it."""
    three, ten, later = results["three_questions"], results["ten_questions"], results["later_questions"]
    beside, overhead = results["reasoning_beside"], results["ros_overhead_ms"][TARGET_IMAGE]
    busy = [row for row in results["control_loop_ms"] if row["perception_beside"] and row["realtime_asked"]]
    jitter = max(row["loop_jitter_p95"] for row in busy)
    stops, in_time = (sum(row[key] for row in busy) for key in ("stops", "within_one_period"))
    difference, step = beside["difference_p95_ms"], beside["step_ms"]
    rows = [
        ("three questions, times faster than `transformers`", ">= 5", three["ratio"], three["ratio"] >= 5),
        ("the same, aimed at", ">= 6", three["ratio"], three["ratio"] >= 6),
        ("ten questions, times faster", ">= 10", ten["ratio"], ten["ratio"] >= 10),
        ("a later question, part of the first", "< 0.25", later["ratio"], later["ratio"] < 0.25),
        ("reasoning beside: p95 more, ms", f"< {step}, a decode step", difference, difference < step),
        (f"ROS overhead p95 at {TARGET_IMAGE}, ms", "<= 10", overhead["p95"], overhead["p95"] <= 10),
        ("control loop beside perception: jitter p95, ms", "<= 5", jitter, jitter <= 5),
        ("emergency stops within one period", f"all {stops}", in_time, in_time == stops),
    ]
    lines = [f"| {what} | {target} | {found} | {'met' if met else '**missed**'} |" for what, target, found, met in rows]
    return f"""\
## Targets

| figure | target | this run | |
|---|---|---|---|
{_lines(lines)}
"""


def _promises(results: dict[str, Any]) -> str:
    """The part on many questions and on reasoning beside perception."""
    ten, later, beside = results["ten_questions"], results["later_questions"], results["reasoning_beside"]
    return f"""\
## Ten questions on one frame

The three above, four counts of single kinds and three objects by name: {ten["ours_ms"]} ms here,
{ten["transformers_ms"]} ms with `transformers`. Ratio, frame by frame: median **{ten["ratio"]}**,
smallest {ten["ratio_min"]} ({ten["frames"]} frames). On the same pixels {ten["answers_equal"]} of
{ten["answers_compared"]} compared answers are identical to the last character; {ten["answers_asked"]} were asked.

## A question after the first on the same frame

Each of the ten asked on a new frame ({later["first_ms"]} ms, median) and again behind another one on a frame that was
looked at before ({later["later_ms"]} ms): **{later["ratio"]}** of the first, median of the ratios; the most expensive
question comes to {later["ratio_worst_question"]}. Asked all at once, each of the other nine adds
{later["together_ms"]} ms ({later["ratio_together"]} of a first question).

## Reasoning beside perception

Three questions on a new frame, 5 times a second, alone and beside a stream of 256 tokens at lower priority, about a
frame that was looked at before; it starts again as soon as it ends (blocks of ten frames in turns). The stream is a
stand-in for reasoning, which the bundled checkpoint ends sooner.

| | p50 ms | p95 ms | frames |
|---|---|---|---|
| alone | {beside["alone_ms"]["p50"]} | {beside["alone_ms"]["p95"]} | {beside["frames_alone"]} |
| beside the stream | {beside["beside_ms"]["p50"]} | {beside["beside_ms"]["p95"]} | {beside["frames_beside"]} |

The p95 differs by **{beside["difference_p95_ms"]} ms**; one decode step of the stream takes {beside["step_ms"]} ms. It
decoded {beside["stream_tokens"]} tokens meanwhile.
"""


def _drafts(settings: dict[str, dict[str, Any]]) -> str:
    """The part on guessing ahead."""
    drafted = any("mtp" in name for name in settings)
    without = "" if drafted else "\nThe checkpoint has no MTP layer, so that no setting with one was measured.\n"
    return f"""\
## Drafts

Every object, all counted, the way decided: each question alone, on frames that differ altogether, with tokens guessed
ahead and verified in the next step. `mtp n`: n guesses of the checkpoint's MTP layer; `ngram n`: n tokens that have to
follow or have often followed in earlier answers (the default is 4); `previous n`: n tokens of the last answer to the
same question. A view that changes little from frame to frame is guessed better than these.
{without}
{acceptance.markdown({name: acceptance.Worth(**worth) for name, worth in settings.items()})}
"""


def _lines(rows: list[str]) -> str:
    return "\n".join(rows)


def _demo(values: dict[str, Any]) -> str:
    """What the demo's own summary says."""
    latency = values["latency_ms"]
    age, received, total = (latency[name] for name in ("decision_age", "decision_received", "total"))
    return f"""\
## The demo

`make demo`, {values["seconds"]:.0f} s: the simulated humanoid's camera at 10 Hz, three standing tasks, a new table
every 3 s; what is answered is held against the simulator's truth. Rendering shares the cores with the engine. Ages are
of the image: when the answer was published, and when another process had it.

| frames / answered | answers/s | mean IoU | F1 at 0.5 | counts right | decisions right |
|---|---|---|---|---|---|
| {values["frames"]} / {values["answered_frames"]} | {values["answers_per_s"]} | {values["mean_iou"]} \
| {values["f1_50"]} | {values["count_accuracy"]} | {values["decision_accuracy"]} |

| of a decision | p50 ms | p95 ms |
|---|---|---|
| age when published | {age["p50"]} | {age["p95"]} |
| age when received | {received["p50"]} | {received["p95"]} |
| engine, all questions on the frame | {total["p50"]} | {total["p95"]} |
"""


def _overhead_row(size: str, values: dict[str, Any]) -> str:
    before, after = values["stamp_to_engine"], values["engine_to_receiver"]
    return (
        f"| {size} | {values['p50']} / {values['p95']} | {before['p50']} / {before['p95']} "
        f"| {after['p50']} / {after['p95']} | {values['answers']} |"
    )


def _control_row(values: dict[str, Any]) -> str:
    arrival, stop = values["arrival_jitter"], values["estop_to_hold"]
    return (
        f"| {'beside' if values['perception_beside'] else 'absent'} | {values['scheduling']} "
        f"| {values['loop_jitter_p95']} "
        f"| {arrival['p50']} / {arrival['p95']} | {stop['p50']} / {stop['p95']} / {stop['max']} "
        f"| {values['within_one_period']} of {values['stops']} |"
    )
