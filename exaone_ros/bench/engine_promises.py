"""What the scheduler promises, measured: later questions on a frame are cheap, and reasoning does not delay perception.

`python -m exaone_ros.bench.engine_promises` runs these two alone and prints their figures as JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exaone_ros.bench.worker import questions
from exaone_ros.engine import Engine, EngineService, Picture, Request, TaskAnswer, Ticket
from exaone_ros.pipes import ends_with_its_reader
from exaone_ros.share import share_path
from exaone_ros.tasks import Ask
from exaone_ros.training.splits import frame_seed
from exaone_ros.view.tally import percentiles

Images = Sequence[NDArray[np.uint8]]
# Nothing is drafted in either: the same frames come round again and again, and drafts would know them by heart.
STREAM_TOKENS = 256
PERIOD_S = 0.2
"""Of the perception tasks: 5 Hz."""
BLOCK = 10
"""Periods in a row with or without the stream, in turns, so that a slow moment of the machine hits both."""
PERCEPTION_PRIORITY = 10


@dataclass(frozen=True, kw_only=True)
class Stream(Ask):
    """Stands in for 256 tokens of reasoning, which the bundled checkpoint would end sooner: a text with no end in it.

    It runs into its budget of tokens and so ends as FAILED; what counts here is that it decodes all the while.
    """

    def schema(self) -> dict[str, Any]:  # type: ignore[override]
        return {"type": "string", "minLength": 16 * STREAM_TOKENS}

    @property
    def max_tokens(self) -> int:
        return STREAM_TOKENS


def frames(number: int) -> list[NDArray[np.uint8]]:
    """Held-out frames of the simulated head camera, 640x480."""
    from exaone_ros.sim.tabletop import TabletopRenderer

    with TabletopRenderer(640, 480) as renderer:
        return [renderer.render(frame_seed("test", i)).image for i in range(number)]


def later_questions(model: Path, images: Images, threads: int) -> dict[str, Any]:
    """What a question costs after the first on the same frame, for each of ten questions asked one at a time.

    Returns:
        first_ms (look and one question, median over questions and frames), later_ms (the same question on a frame that
        another one was asked on before), ratio (median of the ratios, question by question), ratio_worst_question,
        and together_ms, what each of the other nine adds to the first where all ten are asked at once.
    """
    tasks = questions(10)
    first: list[list[float]] = []
    later: list[list[float]] = []
    together: list[float] = []
    with Engine.open(model, threads=threads, slots=len(tasks) + 2, speculation=None) as engine:
        engine.answer(images[0], tasks)  # the first call allocates; nobody's first frame counts
        for image in images:
            first.append([])
            later.append([])
            for index, task in enumerate(tasks):
                began_s = time.perf_counter()
                with engine.look(image) as frame:
                    engine.answer(frame, [task])
                    first[-1].append(time.perf_counter() - began_s)
                    engine.answer(frame, [tasks[index - 1]])
                    began_s = time.perf_counter()
                    engine.answer(frame, [task])
                    later[-1].append(time.perf_counter() - began_s)
            began_s = time.perf_counter()
            engine.answer(image, tasks)
            all_s = time.perf_counter() - began_s
            together.append((all_s - float(np.median(first[-1]))) / (len(tasks) - 1))
    ratios = np.array(later) / np.array(first)
    return {
        "first_ms": _ms(float(np.median(first))),
        "later_ms": _ms(float(np.median(later))),
        "together_ms": _ms(float(np.median(together))),
        "ratio": round(float(np.median(ratios)), 3),
        "ratio_together": round(float(np.median(together) / np.median(first)), 3),
        "ratio_worst_question": round(float(np.median(ratios, axis=0).max()), 3),
        "questions": len(tasks),
        "frames": len(images),
    }


def reasoning_beside(model: Path, images: Images, threads: int, periods: int) -> dict[str, Any]:
    """The latency of three questions on a new frame, 5 times a second, alone and beside a stream of 256 tokens.

    Returns:
        alone_ms and beside_ms (p50 and p95 from submitting the frame to its last answer), difference_p95_ms, step_ms
        (one decode step of the stream where nothing else runs), stream_tokens decoded meanwhile, and how many frames
        were timed of each kind.
    """
    latencies: dict[bool, list[float]] = {False: [], True: []}
    with EngineService(Engine.open(model, threads=threads, speculation=None)) as service:
        first = Picture(images[0])
        step_s = _decode_step(service, first)
        _perceive(service, first)
        stream = Restreamed(service, first)
        for period in range(periods):
            beside = (period // BLOCK) % 2 == 1
            stream.keep(beside)
            # A block beside the stream shows the frames of the block before it: their contents rule the latency.
            picture = Picture(images[(period // (2 * BLOCK) * BLOCK + period % BLOCK) % len(images)])
            began_s = time.perf_counter()
            _perceive(service, picture)
            took_s = time.perf_counter() - began_s
            stream.picture = picture
            if period % BLOCK:  # the first period of a block settles what the block before has left
                latencies[beside].append(took_s)
            time.sleep(max(0.0, PERIOD_S - took_s))
        stream.keep(False)
    alone, beside_ms = (percentiles([value * 1e3 for value in latencies[kind]]) for kind in (False, True))
    return {
        "alone_ms": alone,
        "beside_ms": beside_ms,
        "difference_p95_ms": round(beside_ms["p95"] - alone["p95"], 2),
        "step_ms": _ms(step_s),
        "stream_tokens": stream.tokens,
        "frames_alone": len(latencies[False]),
        "frames_beside": len(latencies[True]),
    }


class Restreamed:
    """A stream of 256 tokens that is asked for again as soon as it has ended, while it is kept.

    Attributes:
        picture: what the next one is asked about: the newest frame that perception has looked at already.
        tokens: decoded so far.
    """

    def __init__(self, service: EngineService, picture: Picture) -> None:
        self._service, self.picture = service, picture
        self._kept = False
        self._ticket: Ticket | None = None
        self.tokens = 0

    def keep(self, kept: bool) -> None:
        """Start it, leave it running, or end it and wait for the end."""
        self._kept = kept
        if kept and self._ticket is None:
            self._ask()
        elif not kept and self._ticket is not None:
            self._ticket.cancel()
            self._ticket.result(timeout=60)
            self._ticket = None

    def _ask(self) -> None:
        self._ticket = self._service.submit(Request(Stream(question="Describe the scene."), (self.picture,)))
        self._ticket.add_done_callback(self._ended)

    def _ended(self, answer: TaskAnswer) -> None:
        """On the engine's thread."""
        self.tokens += answer.tokens
        if self._kept:
            self._ask()


def _perceive(service: EngineService, picture: Picture) -> None:
    """Three questions on a new frame; returns with the last answer."""
    tickets = [service.submit(Request(task, (picture,), priority=PERCEPTION_PRIORITY)) for task in questions()]
    for ticket in tickets:
        ticket.result(timeout=60)


def _decode_step(service: EngineService, picture: Picture) -> float:
    """Seconds of a decode step of the stream alone, host work included."""
    request = Request(Stream(question="Describe the scene."), (picture,))
    service.submit(request).result(timeout=60)
    before = service.timings()
    service.submit(request).result(timeout=60)
    after = service.timings()
    steps = after.decode_steps - before.decode_steps
    return (after.decode_s - before.decode_s + after.grammar_s - before.grammar_s) / steps


def _ms(seconds: float) -> float:
    return round(seconds * 1e3, 2)


@ends_with_its_reader
def main() -> int:
    """Print the figures; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m exaone_ros.bench.engine_promises")
    parser.add_argument("--model", type=Path, help="checkpoint directory (default: the bundled one)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--periods", type=int, default=300, help="of 0.2 s")
    arguments = parser.parse_args()
    model = arguments.model or share_path("models/exaone4_5-tabletop-tiny")
    images = frames(arguments.frames)
    later = later_questions(model, images, arguments.threads)
    beside = reasoning_beside(model, images, arguments.threads, arguments.periods)
    print(json.dumps({"later_questions": later, "reasoning_beside": beside}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
