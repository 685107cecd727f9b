"""Replies of chat servers as tasks read them: their text, and their probabilities where it says them."""

from __future__ import annotations

import math
from typing import Any

import pytest

from exaone_ros.engine.openai_chat import Reply
from exaone_ros.errors import EngineError
from exaone_ros.tasks import Count, Decide, Ground


def entry(text: str, **alternatives: float) -> dict[str, Any]:
    """One token of `logprobs.content`; certain where no alternatives are named."""

    def one(token: str, probability: float) -> dict[str, Any]:
        return {"token": token, "bytes": list(token.encode()), "logprob": math.log(probability)}

    listed = alternatives or {text: 1.0}
    return {**one(text, listed[text]), "top_logprobs": [one(*other) for other in listed.items()]}


def replied(*entries: dict[str, Any], text: str | None = None) -> Reply:
    """A reply that came in one piece, as its tokens spell it or otherwise."""
    reply = Reply()
    content = "".join(one["token"] for one in entries) if text is None else text
    reply.add({"choices": [{"delta": {"content": content}, "logprobs": {"content": entries}, "finish_reason": "stop"}]})
    return reply


WAY = Decide(instruction="Is the way clear?", options=("blocked", "clear"))


def test_probabilities_of_an_answer_with_spaces_and_line_breaks() -> None:
    """As servers write it that let white space be, or that know no grammar; the end of the turn may be a token."""
    choice = entry("clear", clear=0.75, blocked=0.25)
    end = {"token": "<|endofturn|>", "bytes": None, "logprob": 0.0, "top_logprobs": []}
    reply = replied(
        entry('{\n'), entry('  "choice": "'), choice, entry('",\n  "reason": "all free"\n}\n'), end,
        text='{\n  "choice": "clear",\n  "reason": "all free"\n}\n',
    )  # fmt: skip
    result = WAY.read(reply.decoded(), 640, 480)
    assert (result.choice, result.reason) == ("clear", "all free")
    assert result.probabilities == pytest.approx((0.25, 0.75))


def test_probabilities_of_a_box_list_and_of_a_count_with_spaces() -> None:
    listed = entry(' {"', **{' {"': 0.8, " ]": 0.2})
    label = entry("Mug", Mug=0.5, Cup=0.5)
    reply = replied(entry("["), listed, entry('bbox_2d": [1, 2, 3, 4], "label": "'), label, entry('"} ]'))
    (detection,) = Ground(classes=("mug", "cup")).read(reply.decoded(), 1000, 1000).detections
    assert detection.label == "mug" and detection.score == pytest.approx(0.8 * 0.5)
    counted = Count().read(
        replied(entry('{ "count": '), entry("3", **{"3": 0.75, "4": 0.25}), entry(" }")).decoded(), 1, 1
    )
    assert counted.count == 3 and counted.probability == pytest.approx(0.75)


def test_probabilities_that_do_not_spell_the_text_are_not_used() -> None:
    reply = replied(entry("something"), entry(" else"), text='{"choice":"clear","reason":""}')
    result = WAY.read(reply.decoded(), 640, 480)
    assert result.choice == "clear" and result.probabilities == ()


def test_bytes_are_a_list() -> None:
    """Of a number Python would make that many zeros, or run out of memory."""
    for wrong in (5, 10**15, "a", {"a": 1}, [300]):
        with pytest.raises(EngineError, match="expected token, logprob, bytes"):
            replied({**entry("a"), "bytes": wrong}).decoded()


@pytest.mark.parametrize("wrong", [None, "x", math.nan, 0.5, 10**400, -(10**400)])
def test_a_probability_is_a_number_that_can_be_one(wrong: object) -> None:
    with pytest.raises(EngineError, match="expected token, logprob, bytes"):
        replied({**entry("a"), "logprob": wrong}).decoded()
