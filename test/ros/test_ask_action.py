"""The action `ask` over real DDS: typed results, streamed text, cancel, several goals at once, named endings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("rclpy")

from action_msgs.msg import GoalStatus
from ask_client import AskClient, Goal
from peer import Pair, perceiving, red_box

from exaone_interfaces.action import Ask
from exaone_interfaces.msg import Task

RED, BLACK = red_box(4, 4, 40, 40), red_box(0, 0, 0, 0)
WORDS = Task(name="words", kind="ask", instruction="What is there?")
WAY = Task(name="way", kind="decide", instruction="Is the way clear?", options=["clear", "blocked"])


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Pair, AskClient]]:
    """A node whose answers take half a second."""
    parameters = {"max_age_s": 600.0, "max_asks": 3}
    with perceiving(tmp_path_factory.mktemp("ask"), "--delay-s", "0.5", **parameters) as pair:
        client = AskClient(pair.peer)
        pair.peer.warm_up()
        yield pair, client


def test_a_decision_is_typed_and_carries_the_image_it_was_read_from(slow: tuple[Pair, AskClient]) -> None:
    pair, client = slow
    stamp_ns = pair.peer.send(RED)
    pair.peer.answer("decision", stamp_ns)
    status, result = client.ask(WAY).result()
    assert (status, result.error_code, result.error_msg) == (GoalStatus.STATUS_SUCCEEDED, Ask.Result.ERROR_NONE, "")
    assert (result.choice, list(result.options), result.reason) == (
        "blocked",
        ["clear", "blocked"],
        "because of the pixels",
    )
    assert sum(result.probabilities) == pytest.approx(1.0)
    (header,) = result.headers
    assert header.stamp.sec * 10**9 + header.stamp.nanosec == stamp_ns and header.frame_id == "camera_optical_frame"
    assert result.latency.sec + result.latency.nanosec > 0 and result.age.sec + result.age.nanosec > 0


def test_text_and_reasoning_are_streamed_and_several_goals_run_at_once(slow: tuple[Pair, AskClient]) -> None:
    pair, client = slow
    pair.peer.send(RED)
    thoughtful = Task(name="think", kind="ask", instruction="What is there?", thinking=True)
    goals = [client.ask(task) for task in (WORDS, thoughtful, Task(name="boxes", kind="ground"))]
    results = [goal.result() for goal in goals]
    assert [status for status, _ in results] == [GoalStatus.STATUS_SUCCEEDED] * 3
    assert results[0][1].answer == "I see 1 red of 1"

    def said(goal: Goal, reasoning: bool) -> str:
        return "".join(piece.text for piece in goal.feedback if piece.reasoning == reasoning)

    pair.peer.wait(lambda: said(goals[0], False) == "I see 1 red of 1", "the text")
    pair.peer.wait(lambda: said(goals[1], True) == "well, red?" == results[1][1].reasoning, "the reasoning")
    boxes = results[2][1]
    assert list(boxes.labels) == ["red box"] and list(boxes.boxes) == [4, 4, 40, 40] and list(boxes.scores) == [0.75]


def test_a_goal_can_be_cancelled_and_the_next_is_answered(slow: tuple[Pair, AskClient]) -> None:
    pair, client = slow
    pair.peer.send(RED)
    goal = client.ask(Task(name="endless", kind="ask", instruction="What is there?"))
    pair.peer.wait(lambda: goal.feedback, "the first text")
    pair.peer.run(lambda: goal.handle.cancel_goal_async())
    status, result = goal.result()
    assert (status, result.error_code) == (GoalStatus.STATUS_CANCELED, Ask.Result.ERROR_CANCELLED)
    assert client.ask(WAY).result()[1].error_code == Ask.Result.ERROR_NONE


@pytest.mark.parametrize(
    ("task", "cameras", "code", "words"),
    [
        (Task(name="odd", kind="guess"), (), Ask.Result.ERROR_INVALID_TASK, "guess"),
        (Task(name="r", kind="ground", rate=1.0), (), Ask.Result.ERROR_INVALID_TASK, "rate is 1"),
        (Task(name="c", kind="count", classes=["a", "b"]), (), Ask.Result.ERROR_INVALID_TASK, "one"),
        (WAY, ("nose",), Ask.Result.ERROR_UNKNOWN_CAMERA, "nose"),
        (Task(name="endless", kind="ground", deadline=0.05), (), Ask.Result.ERROR_DEADLINE, "deadline"),
    ],
)
def test_what_cannot_be_answered_ends_with_a_code_and_a_reason(
    slow: tuple[Pair, AskClient], task: Task, cameras: tuple[str, ...], code: int, words: str
) -> None:
    pair, client = slow
    pair.peer.send(RED)
    pair.peer.wait(lambda: pair.peer.received["decision"], "a frame that was seen")
    status, result = client.ask(task, *cameras).result()
    assert (status, result.error_code) == (GoalStatus.STATUS_ABORTED, code) and words in result.error_msg


def test_goals_survive_a_camera_hiccup_or_end_with_that_reason(tmp_path: Path) -> None:
    with perceiving(tmp_path, max_age_s=2.0) as pair:
        peer, client = pair.peer, AskClient(pair.peer)
        waiting = client.ask(WAY)  # no camera yet
        hasty = client.ask(Task(name="hasty", kind="ground", deadline=0.2))
        status, result = hasty.result()
        assert (status, result.error_code) == (GoalStatus.STATUS_ABORTED, Ask.Result.ERROR_NO_FRESH_FRAME)
        peer.stream(RED, lambda: waiting.answer, "an answer to the one that waited")
        assert waiting.answer.result.choice == "blocked"
        too_many = client.ask(WAY)
        assert peer.transition("deactivate")
        assert too_many.result()[1].error_code in (Ask.Result.ERROR_NONE, Ask.Result.ERROR_INACTIVE)
        status, result = client.ask(WAY).result()
        assert (status, result.error_code) == (GoalStatus.STATUS_ABORTED, Ask.Result.ERROR_INACTIVE)


def test_more_goals_than_may_be_are_refused_as_busy(tmp_path: Path) -> None:
    with perceiving(tmp_path, max_asks=1) as pair:
        client = AskClient(pair.peer)
        first = client.ask(WAY)  # waits for an image
        assert client.ask(WAY).result()[1].error_code == Ask.Result.ERROR_BUSY
        pair.peer.stream(RED, lambda: first.answer, "an answer to the first")


def test_no_goal_of_many_that_come_at_once_is_lost(tmp_path: Path) -> None:
    """With the ten calls that a service keeps by default, most of these would get neither an answer nor a refusal."""
    with perceiving(tmp_path, max_asks=64) as pair:
        peer, client = pair.peer, AskClient(pair.peer)
        peer.warm_up()
        goals = client.ask_at_once([WAY] * 60)
        peer.stream(RED, lambda: all(goal.answer for goal in goals), "the ends of all goals")
        assert {goal.answer.result.error_code for goal in goals} == {Ask.Result.ERROR_NONE}
