"""Counts, free questions, and what every task checks about the text of its user."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exaone_ros.errors import TaskError
from exaone_ros.tasks import Answer, Ask, Count, Decide, Decoded, Ground, StandingTask, Task, TokenEvidence


@given(st.integers(0, 99))
def test_a_count_is_read_back(count: int) -> None:
    result = Count(label="mugs").read(Decoded(Count.answer(count)), 640, 480)
    assert (result.label, result.count) == ("mugs", count) and math.isnan(result.probability)


def test_a_counts_probability_includes_that_no_further_digit_follows() -> None:
    tokens = (
        TokenEvidence(b'{"count":', 0.5, ((b'{"count":', 0.5), (b"{", 0.5))),  # how the text is cut does not matter
        TokenEvidence(b"1", 0.75, ((b"1", 0.75), (b"12", 0.25))),
        TokenEvidence(b"}", 0.5, ((b"}", 0.5), (b"0", 0.5))),
    )
    assert Count().read(Decoded('{"count":1}', tokens), 1, 1).probability == pytest.approx(0.375)


def test_a_count_is_found_however_the_json_is_written() -> None:
    text = ' {"why": "5: maybe", "count" :\t12\n}'
    tokens = tuple(TokenEvidence(bytes([byte]), 0.5, ((bytes([byte]), 0.5),)) for byte in text.encode())
    result = Count().read(Decoded(text, tokens), 1, 1)
    assert result.count == 12 and result.probability == pytest.approx(0.125)  # two digits, and what ends them
    assert Count().read(Decoded('{"count": 3.0}'), 1, 1).count == 3


@pytest.mark.parametrize(
    "text", ["", "3", "{}", '{"count":true}', '{"count":1.5}', '{"count":-1}', '{"count":100}', "[]"]
)
def test_what_is_no_count_is_refused(text: str) -> None:
    with pytest.raises(TaskError, match="is not a count"):
        Count().read(Decoded(text), 640, 480)


def test_an_empty_label_counts_everything_in_the_language_of_the_task() -> None:
    assert "all objects" in Count().prompt()
    assert "모든 물체" in Count(language="ko").prompt()
    assert "mug" in Count(label="mug").prompt()


def test_a_free_question_hands_on_text_and_reasoning() -> None:
    task = Ask(question="What is\nthat?", answer_tokens=12)
    assert task.schema() is None and task.max_tokens == 12 and task.prompt() == "What is\nthat?"
    assert task.read(Decoded(" A mug. ", reasoning="hm"), 640, 480) == Answer("A mug.", "hm")


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        (Ask, {"question": ""}, "question is empty"),
        (Ask, {"question": "x" * 4001}, r"4001 characters.*at most 4000"),
        (Ask, {"question": "x", "answer_tokens": 0}, "answer_tokens is 0"),
        (Ask, {"question": "x", "answer_tokens": True}, "answer_tokens is True"),
        (Ask, {"question": 5}, "question is 5 of type int"),
        (Count, {"label": "a\x07"}, r"control character U\+0007"),
        (Count, {"label": "a\nb"}, r"control character U\+000A"),
        (Count, {"label": "\ud800"}, r"U\+D800"),
        (Count, {"label": "\u200b"}, r"label '\\u200b' is blank"),
        (Ask, {"question": "\u2060 \u200b"}, "question .* is blank"),
        (Decide, {"instruction": "x", "options": ("a", "\u3164")}, r"options\[1\] '\\u3164' is blank"),
        (Ground, {"classes": ("\u2800\ufe0f",)}, r"classes\[0\] .* is blank"),
        (Ground, {"classes": ("mug", "a\u202eb")}, r"classes\[1\] 'a\\u202eb' holds the mark U\+202E.*remove it"),
        (Count, {"label": "a\u2066b"}, r"label .* holds the mark U\+2066"),
        (Count, {"name": "a\u202a"}, r"task name .* holds the mark U\+202A"),
        (Decide, {"instruction": "x", "options": ("a", "b\u2069")}, r"options\[1\] .* holds the mark U\+2069"),
        (Count, {"label": "x" * 65}, "65 characters; expected at most 64"),
        (Count, {"wording": -1}, "wording is -1"),
        (Count, {"wording": "1"}, "wording is '1'"),
        (Count, {"language": "fr"}, "language is 'fr'"),
        (Count, {"thinking": 1}, "thinking is 1"),
        (Count, {"thinking_budget": 0}, "thinking_budget is 0"),
        (Count, {"name": "n" * 65}, "task name has 65"),
        (Ground, {"classes": "mug"}, "expected a list of texts"),
        (Ground, {"classes": ("mug", 3)}, r"classes\[1\] is 3"),
        (Ground, {"classes": ("",)}, r"classes\[0\] is empty"),
        (Ground, {"classes": tuple(map(str, range(10_000)))}, "10000 entries; expected 0 to 64"),
        (Decide, {"options": ("a", "b")}, "instruction is empty"),
        (Decide, {"instruction": "x", "options": ("a", "b"), "reason": 1}, "reason is 1"),
    ],
)
def test_bad_tasks_are_refused_by_the_name_of_what_is_wrong(
    kind: type[Task], fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(TaskError, match=message):
        kind(**fields)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rate_hz": -1}, "rate is -1"),
        ({"rate_hz": math.nan}, "rate is nan"),
        ({"deadline_s": 3601}, "deadline is 3601"),
        ({"priority": 1.5}, r"priority is 1\.5"),
        ({"priority": 1001}, "priority is 1001"),
        ({"camera": None}, "camera is None"),
    ],
)
def test_bad_schedules_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        StandingTask(Count(name="c"), **values)


MAKERS: list[Callable[[str], Task]] = [
    lambda text: Count(label=text),
    lambda text: Ask(question=text),
    lambda text: Ground(classes=(text,)),
    lambda text: Decide(instruction=text, options=(text, "no")),
]


@given(st.text(), st.sampled_from(MAKERS))
def test_any_text_is_taken_or_refused_with_a_task_error(text: str, make: Callable[[str], Task]) -> None:
    try:
        task = make(text)
    except TaskError:
        return
    assert task.prompt().encode()
