"""Task files are read as they are written, and what is wrong in them is named."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from exaone_ros.errors import TaskError
from exaone_ros.tasks import (
    Ask,
    Count,
    Decide,
    Ground,
    StandingTask,
    standing_tasks_from_yaml,
    task_from_dict,
    task_to_dict,
)

FILE = """
objects:
  kind: ground
  classes: [red cube, 머그]
  rate: 5
way:
  kind: decide
  instruction: Is the way clear?
  options: [clear, blocked]
  reason: false
  priority: 3
  deadline: 0.5
  camera: head
"""


def test_a_task_file_is_read_in_order() -> None:
    objects, way = standing_tasks_from_yaml(FILE)
    assert objects == StandingTask(Ground(name="objects", classes=("red cube", "머그")), rate_hz=5)
    decide = Decide(name="way", instruction="Is the way clear?", options=("clear", "blocked"), reason=False)
    assert way == StandingTask(decide, priority=3, deadline_s=0.5, camera="head")


seen = st.characters(exclude_categories=("Cc", "Cs", "Cf", "Mn"), exclude_characters="\u115f\u1160\u2800\u3164\uffa0")
texts = st.text(seen, min_size=1, max_size=20).filter(lambda t: t.strip())
common = {"name": texts, "language": st.sampled_from(["en", "ko"]), "thinking": st.booleans()}
tasks = st.one_of(
    st.builds(Ground, classes=st.lists(texts, max_size=1), wording=st.integers(0, 9), **common),
    st.builds(Count, label=texts, **common),
    st.builds(Decide, instruction=texts, options=st.just(("yes", "no")), reason=st.booleans(), **common),
    st.builds(Ask, question=texts, answer_tokens=st.integers(1, 999), thinking_budget=st.integers(1, 999), **common),
)
schedules = st.builds(
    StandingTask, tasks, st.floats(0, 1000), st.integers(-1000, 1000), st.floats(0, 3600), st.sampled_from(["", "head"])
)


@pytest.mark.parametrize(
    "data",
    [
        {"kind": "x" * 100_000},
        {"kind": "ground", "x" * 100_000: 1},
        {"kind": "ground", "classes": "x" * 100_000},
        {"kind": "ground", "name": "n" * 100_000, "classes": 3},
        {"kind": "ground", "language": ["x" * 100_000]},
        {"kind": "ground", "thinking": "x" * 100_000},
        {"kind": "ground", "thinking_budget": 1 << 100_000},
        {"kind": "ground", "rate": "x" * 100_000},
        {"kind": "ground", "priority": [1 << 100_000]},
        {"kind": "ground", "camera": ["x" * 100_000]},
        {"kind": "decide", "instruction": "?", "options": ["a", "b"], "reason": "x" * 100_000},
        {"kind": "ask", "question": "?", "answer_tokens": 1 << 100_000},
    ],
)
def test_a_huge_value_is_told_in_short(data: dict[str, object]) -> None:
    with pytest.raises(TaskError) as caught:
        task_from_dict(data)
    assert len(str(caught.value)) < 300


@given(schedules)
def test_a_task_survives_the_way_through_yaml(standing: StandingTask) -> None:
    assert task_from_dict(task_to_dict(standing)) == standing
    text = yaml.safe_dump({standing.task.name: task_to_dict(standing)}, allow_unicode=True)
    assert standing_tasks_from_yaml(text) == (standing,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("# nothing yet", "is empty"),
        ("[1, 2]", "holds a list"),
        ("a: [", "not valid YAML"),
        ("a: 5", "task 'a' is 5"),
        ("1: {kind: count}", "task name is 1"),
        ("yes: {kind: count}", "task name is True"),
        ("a: {kind: dance}", "'a': kind is 'dance'"),
        ("a: {kind: [count]}", r"'a': kind is \['count'\]"),
        ("a: {}", "'a': kind is None"),
        ("a: {kind: count, colour: red}", "'a': unknown key 'colour'"),
        ("a: {kind: count, 7: red}", "'a': unknown key '7'"),
        ("a: {kind: count, rate: fast}", "'a': rate is 'fast'"),
        ("a: {kind: count, name: b}", "'a' is also named 'b'"),
        ("a: {kind: count}\n' a': {kind: count}", "names the task 'a' twice"),
        ("a: {kind: count, label: 2026-13-45}", "line 1 .* '2026-13-45' is no timestamp: month"),
        (
            "a: {kind: count}\nb: {kind: count, thinking: !!bool maybe}",
            "^line 2 of the task file: 'maybe' is no bool; ",
        ),
        ("a: {kind: count, label: !!timestamp nope}", "line 1 of the task file: 'nope' is no timestamp; write a text"),
        ("a: {kind: count, rate: !!int fast}", "line 1 of the task file: 'fast' is no int"),
        ("a: {kind: count, rate: !!int ''}", "line 1 of the task file: '' is no int; write"),
        ("a: {kind: count, rate: !!float ''}", "line 1 of the task file: '' is no float; write"),
        (f"a: {{kind: count, rate: 1{':59' * 200}.5}}", "line 1 of the task file: '1:59.* is no float: int too large"),
        ("a: !!map [1]", "expected a mapping node, but found sequence"),
        ("a: !!map x", "expected a mapping node, but found scalar"),
        ("? [a, b]\n: {kind: count}", "found unhashable key"),
        ("a: !!set {kind, count}", "task 'a' is {"),
        ("[" * 100_000, "not valid YAML"),
        ("a: {kind: count}\na: {kind: ground}", "^line 2 of the task file has 'a' a second time"),
        ("a: {kind: count, label: mugs, label: cups}", "has 'label' a second time"),
        ("a: {kind: decide, instruction: x, options: []}", "'a': options has 0 entries"),
        ("a: {kind: decide, instruction: x, options: [yes, no]}", r"options\[0\] is True.*in quotes"),
        ("a: !!python/object/apply:os.getcwd []", "not valid YAML"),
    ],
)
def test_what_is_wrong_with_a_task_file_is_named(text: str, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        standing_tasks_from_yaml(text)


def test_every_task_that_is_wrong_is_named_at_once() -> None:
    text = "a: {kind: dance}\nb: {kind: count}\nc: {kind: count, rate: -1}\n3: {kind: count}"
    with pytest.raises(TaskError, match=r"^task 'a': kind is 'dance'.*; task 'c': rate is -1.*; task name is 3 "):
        standing_tasks_from_yaml(text)


def test_what_yaml_blows_up_is_not_told_in_full() -> None:
    lists = [f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]" for before, name in zip("abcd", "bcde", strict=True)]
    text = "\n".join(["a: &a [x, x, x, x, x, x, x, x, x, x]", *lists, "f: {kind: *e}", "g: {kind: count, label: *e}"])
    with pytest.raises(TaskError, match=r"task 'f': kind is \[.*: label is \[") as caught:
        standing_tasks_from_yaml(text)
    assert len(str(caught.value)) < 10_000  # written out they are a million


def test_tasks_may_share_what_yaml_lets_them_share() -> None:
    first, second = standing_tasks_from_yaml(
        "a: &often {kind: count, label: mugs, rate: 5}\nb: {<<: *often, label: cups}"
    )
    assert (first.rate_hz, second.rate_hz, second.task) == (5, 5, Count(name="b", label="cups"))
