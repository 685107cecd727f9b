"""Fresh or nothing, newest first, and nothing that happens to a frame ends the worker."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from fake_engine import FakeEngine, GatedEngine
from worker_bench import PATIENCE_S, TASKS, Bench, S, bench

from exaone_ros.engine.request import Request
from exaone_ros.engine.ticket import Ticket
from exaone_ros.errors import ImageError
from exaone_ros.ros import engine_keeper
from exaone_ros.ros.camera import FRAMES_KEPT
from exaone_ros.ros.look import Publication
from exaone_ros.ros.pixels import UnusableImage
from exaone_ros.tasks import Ask, Count, Decide, Ground, StandingTask


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_keeper, "RETRY_S", 0.01)


@pytest.fixture
def no_collector() -> Iterator[None]:
    """What is let go goes at once or never: rings are not found."""
    gc.disable()
    yield
    gc.enable()


def names(publications: list[Publication]) -> list[list[str]]:
    return [[timely.answer.task.name for timely in publication.answers] for publication in publications]


def test_an_answer_carries_the_frame_it_was_read_from_and_its_age() -> None:
    with bench(FakeEngine(looks=7)) as b:  # it has been asked before: that time is not this look's
        b.offer(stamp_ns=b.now_ns - S // 10)
        b.wait("frames.answered")
    (publication,) = b.published
    assert publication.frame.stamp_ns == 1000 * S - S // 10 and publication.frame.frame_id == "camera"
    assert publication.age_ns == S // 10 and publication.latency_ns > 0 and publication.camera == ""
    assert names(b.published) == [["objects", "way"]]
    reading = b.meter.read()
    assert b.cameras[""].meter.read().samples["age.arrival_s"].p50 == pytest.approx(0.1)
    assert reading.samples["stage.encode_s"].p50 == pytest.approx(0.004) and reading.sums["work.tokens"] == 10
    assert reading.totals["task.objects"] == reading.totals["task.way"] == 1


def test_all_tasks_on_a_frame_share_one_picture() -> None:
    engine = GatedEngine()
    with bench(engine, tasks=(*TASKS, StandingTask(Count(name="all"), priority=2))) as b:
        b.offer()
        engine.wait_entered(3)
        assert len({id(request.pictures[0]) for request in engine.entered}) == 1
        assert sorted(request.priority for request in engine.entered) == [0, 0, 2]
    assert engine.looks == 1


@pytest.mark.usefixtures("no_collector")
def test_an_image_that_was_answered_and_replaced_is_let_go_without_a_garbage_collection() -> None:
    gone = threading.Event()
    image = np.zeros((4, 4, 3), np.uint8)
    weakref.finalize(image, gone.set)
    with bench() as b:
        b.offer(image)
        del image
        b.wait("frames.answered")
        b.published.clear()
        for number in range(2, 2 + FRAMES_KEPT):  # the camera keeps its last ones
            b.now_ns += S // 100
            b.offer()
            b.wait("frames.answered", number)
        assert gone.wait(PATIENCE_S)


def test_while_the_engine_is_busy_only_the_newest_frame_waits() -> None:
    engine = GatedEngine()
    with bench(engine, tasks=TASKS[:1]) as b:
        b.offer(np.full((4, 4, 3), 0, np.uint8))
        engine.wait_entered(1)
        for index in range(1, 5):
            b.now_ns += S // 100
            b.offer(np.full((4, 4, 3), index, np.uint8))
        assert b.worker.busy_s > 0
        engine.let(1)
        engine.wait_entered(2)
        engine.let(1)
        b.wait("frames.answered", 2)
    assert [int(request.pictures[0].image[0, 0, 0]) for request in engine.entered] == [0, 4]
    assert b.total("dropped.replaced") == 3 and b.total("frames.received") == 5


@contextmanager
def one_waits_behind_another() -> Iterator[tuple[Bench, GatedEngine]]:
    """The engine is at one frame, and there is a newer one."""
    engine = GatedEngine()
    with bench(engine, tasks=TASKS[:1]) as b:
        b.offer()
        engine.wait_entered(1)
        b.now_ns += S // 10
        b.offer()
        yield b, engine


def test_a_frame_that_grew_old_while_it_waited_is_not_answered() -> None:
    with one_waits_behind_another() as (b, engine):
        b.now_ns += 2 * S
        b.wait("dropped.late")  # the first: it was cancelled
        b.wait("dropped.stale")  # the second
    assert b.published == [] and engine.looks == 1


def test_stamps_that_must_not_be_answered_never_reach_the_engine() -> None:
    with bench() as b:
        for stamp_ns in (0, b.now_ns - 2 * S, b.now_ns + S):
            b.offer(stamp_ns=stamp_ns)
        b.offer()
        b.wait("frames.answered")
        b.offer()  # the same stamp again
        b.offer(stamp_ns=b.now_ns - 1)
    assert b.engine.looks == 1
    totals = b.cameras[""].meter.read().totals
    dropped = {name for name, number in totals.items() if name.startswith("dropped.") and number == 1}
    assert dropped == {
        f"dropped.{r}" for r in ("zero_stamp", "stale", "future_stamp", "repeated_stamp", "out_of_order")
    }


def test_after_a_reset_of_the_clock_it_goes_on_at_once() -> None:
    with bench(tasks=(StandingTask(Ground(name="rare"), rate_hz=0.01),)) as b:
        b.offer()
        b.wait("frames.answered")
        b.now_ns = 1 * S
        b.offer()
        b.wait("frames.answered", 2)
    assert [p.frame.stamp_ns for p in b.published] == [1000 * S, 1 * S]
    assert b.total("clock.restarts") == 1


def test_what_was_seen_before_a_reset_of_the_clock_is_not_published_after_it() -> None:
    engine = GatedEngine()
    with bench(engine, tasks=TASKS[:1]) as b:
        b.offer()
        engine.wait_entered(1)
        b.now_ns = 1 * S
        b.offer()
        b.wait("dropped.before_reset")
        engine.wait_entered(2)
        engine.open()
        b.wait("frames.answered")
    assert [p.frame.stamp_ns for p in b.published] == [1 * S]


def test_after_a_reset_of_the_clock_that_no_image_has_followed_nothing_of_before_is_answered() -> None:
    with one_waits_behind_another() as (b, engine):
        b.now_ns = 1 * S  # the camera, silent since, has not noticed
        b.wait("dropped.before_reset", 2)
        assert b.cameras[""].recent() == [] and b.cameras[""].waiting is None
        b.offer()
        engine.wait_entered(2)
        engine.open()
        b.wait("frames.answered")
    assert [p.frame.stamp_ns for p in b.published] == [1 * S]


def test_a_deadline_of_its_own_marks_a_task_and_spares_the_others() -> None:
    tasks = (
        StandingTask(Ground(name="patient")),
        StandingTask(Decide(name="hasty", instruction="Now?", options=("yes", "no")), deadline_s=0.2),
    )
    engine = GatedEngine()
    with bench(engine, tasks=tasks) as b:
        b.offer()
        engine.wait_entered(2)
        b.now_ns += S // 2
        engine.let(2)
        b.wait("frames.answered")
    assert [timely.missed_deadline for timely in b.published[0].answers] == [False, True]


def test_priorities_are_told_to_the_engine_and_published_apart() -> None:
    tasks = (StandingTask(Ground(name="later")), StandingTask(Count(name="first"), priority=3))
    with bench(tasks=tasks) as b:
        b.offer()
        b.wait("frames.answered", 2)
    assert sorted(names(b.published)) == [["first"], ["later"]]
    assert b.engine.looks == 1


def test_what_is_published_later_of_a_frame_comes_with_what_was_published_before() -> None:
    tasks = (StandingTask(Ground(name="a")), StandingTask(Ground(name="b"), priority=3))
    with bench(tasks=tasks) as b:
        for answered in (2, 4):
            b.now_ns += S
            b.offer()
            b.wait("frames.answered", answered)
    assert len(b.published) == 4
    for first, second in (b.published[:2], b.published[2:]):
        assert first.frame is second.frame and first.before == () and second.before == first.answers


def test_frames_on_which_nothing_is_due_cost_nothing() -> None:
    with bench(tasks=(StandingTask(Ground(name="slow"), rate_hz=1.0),)) as b:
        b.offer()
        b.wait("frames.answered")
        b.now_ns += S // 10
        b.offer(RuntimeError("must not be converted"))
        b.wait("frames.not_due")
    assert b.engine.looks == 1 and b.total("engine.failed") == 0


def test_slow_tasks_run_beside_the_others_and_do_not_hold_up_the_next_look() -> None:
    slow = StandingTask(Decide(name="slow", instruction="Well?", options=("a", "b"), thinking=True))
    words = StandingTask(Ask(name="words", question="What is there?"))
    engine = GatedEngine()
    with bench(engine, tasks=(TASKS[0], slow, words)) as b:
        b.offer()
        engine.wait_entered(3)
        order = [request.task.name for request in engine.entered]
        engine.let(order.index("objects") + 1)
        b.wait("task.objects")
        for number in (2, 3):  # more looks, while at least one slow task is still at the first
            b.now_ns += S // 10
            b.offer()
            engine.wait_entered(len(engine.entered) + 1 if number == 3 else 4)
            engine.open()
            b.wait("task.objects", number)
        b.wait("task.words")
        b.wait("task.slow")
    assert ["words"] in names(b.published) and ["slow"] in names(b.published)
    assert all("objects" not in group or group == ["objects"] for group in names(b.published))


def test_a_task_that_is_added_starts_within_its_period_while_another_runs() -> None:
    engine = GatedEngine()
    with bench(engine, tasks=TASKS[:1], max_age_s=60.0) as b:
        b.offer()
        engine.wait_entered(1)  # and stays there
        added = StandingTask(Count(name="added"), rate_hz=2.0)
        b.board.replace((TASKS[0], added))
        b.now_ns += S // 10
        b.offer()
        engine.wait_entered(2)
        assert engine.entered[1].task.name == "added"
        for _ in range(3):
            b.now_ns += S // 10
            b.offer()
        assert len(engine.entered) == 2  # it is asked once, and 'objects' not again
        engine.open()
        b.wait("task.added")


def test_answers_to_tasks_that_were_replaced_meanwhile_are_not_published() -> None:
    engine = GatedEngine()
    with bench(engine, tasks=TASKS[:1]) as b:
        b.offer()
        engine.wait_entered(1)
        b.board.replace(TASKS[1:])
        b.now_ns += S // 10
        b.offer()
        engine.wait_entered(2)  # the first was cancelled
        engine.open()
        b.wait("frames.answered")
    assert names(b.published) == [["way"]]


def test_bad_frames_are_counted_by_kind_told_once_and_survived() -> None:
    with bench() as b:
        for index in range(6):
            b.now_ns += 1
            reason = "wrong_step" if index % 2 else "zero_size"
            b.offer(UnusableImage(reason, f"fault {index}"))  # type: ignore[arg-type]
            b.wait(f"bad.{reason}", index // 2 + 1)
        b.now_ns += 1
        b.offer(ImageError("an aspect ratio that the checkpoint does not take"))
        b.wait("bad.refused_by_engine")
        b.now_ns += 1
        b.offer()
        b.wait("frames.answered")
    assert sum("zero_size" in line for line in b.log.lines) == 1
    assert sum("wrong_step" in line for line in b.log.lines) == 1


def test_an_engine_that_fails_is_tried_again() -> None:
    with bench(FakeEngine(failures=2)) as b:
        for index in range(2):
            b.now_ns += 1
            b.offer()
            b.wait("engine.failed", index + 1)
            assert "told to fail" in b.keeper.trouble
        b.now_ns += 1
        b.offer()
        b.wait("engine.done")
        assert b.keeper.trouble == ""
    assert sum("told to fail" in line for line in b.log.lines) == 1  # not for each frame


def test_an_engine_that_raises_what_nobody_foresaw_is_tried_again() -> None:
    class Defective(FakeEngine):
        raised = 0

        def submit(self, request: Request) -> Ticket:
            if self.raised < 2:
                self.raised += 1
                raise RuntimeError("a bug")
            return super().submit(request)

    with bench(Defective(), tasks=TASKS[:1]) as b:
        for failures in (1, 2):
            b.now_ns += S
            b.offer()
            b.wait("failed.objects", failures)
        b.now_ns += S
        b.offer()
        b.wait("frames.answered")
    assert any("Traceback" in line and "a bug" in line for line in b.log.lines)


def test_whatever_is_raised_is_logged_with_its_traceback_and_survived() -> None:
    with bench() as b:
        b.offer(KeyError("a bug"))
        b.wait("bad.unexpected")

        def refuse(_: Publication) -> None:
            b.on_publish = lambda publication: None
            raise OSError("a publisher that fails")

        b.on_publish = refuse
        for _ in range(2):
            b.now_ns += 1
            b.offer()
            b.wait("failed.worker")
        b.wait("frames.answered")
    for words in ("a bug", "a publisher that fails"):
        assert any("Traceback" in line and words in line for line in b.log.lines)


def test_one_failed_task_does_not_cost_the_others() -> None:
    tasks = (*TASKS, StandingTask(Decide(name="broken", instruction="Well?", options=("yes", "no"))))
    with bench(tasks=tasks) as b:
        b.offer()
        b.wait("frames.answered")
    assert b.total("failed.broken") == 1 and b.total("task.objects") == 1
    assert len(b.published[0].answers) == 3 and b.total("engine.failed") == 0


def test_stopping_cancels_the_answer_that_is_under_way_and_publishes_nothing() -> None:
    engine = GatedEngine()
    b = Bench(engine)
    b.worker.start()
    b.offer()
    engine.wait_entered(2)
    assert b.worker.stop(PATIENCE_S)
    assert b.published == [] and b.keeper.close(PATIENCE_S)


# --- several cameras


def test_cameras_take_turns_on_one_engine() -> None:
    engine = GatedEngine()
    task = StandingTask(Count(name="all"), camera="*")
    with bench(engine, tasks=(task,), cameras=("left", "right", "back"), max_age_s=60.0) as b:
        for number in range(1, 10):
            b.now_ns += S // 100
            for value, camera in enumerate(b.cameras):
                b.offer(np.full((4, 4, 3), value, np.uint8), camera=camera)  # all of them have a frame at any time
            engine.wait_entered(number)
            engine.let(1)
            b.wait("frames.answered", number)
    looked = [int(request.pictures[0].image[0, 0, 0]) for request in engine.entered[:9]]
    assert all(sorted(looked[i : i + 3]) == [0, 1, 2] for i in (0, 3, 6))
    assert {publication.camera for publication in b.published} == {"left", "right", "back"}


def test_more_cameras_at_a_time_where_that_is_asked_for() -> None:
    engine = GatedEngine()
    task = StandingTask(Count(name="all"), camera="*")
    with bench(engine, tasks=(task,), cameras=("left", "right", "back"), concurrent_looks=2, max_age_s=60.0) as b:
        for camera in b.cameras:
            b.offer(camera=camera)
        engine.wait_entered(2)
        engine.let(1)
        engine.wait_entered(3)
        engine.open()
        b.wait("frames.answered", 3)


def test_tasks_belong_to_cameras_and_the_first_gets_those_that_name_none() -> None:
    tasks = (
        StandingTask(Ground(name="first")),
        StandingTask(Ground(name="named"), camera="right"),
        StandingTask(Count(name="each"), camera="*"),
    )
    with bench(tasks=tasks, cameras=("left", "right")) as b:
        for camera in b.cameras:
            b.offer(camera=camera)
        b.wait("frames.answered", 2)
    found = {p.camera: [timely.answer.task.name for timely in p.answers] for p in b.published}
    assert found == {"left": ["first", "each"], "right": ["named", "each"]}


def test_one_bad_camera_does_not_stop_the_others() -> None:
    task = StandingTask(Count(name="all"), camera="*")
    with bench(tasks=(task,), cameras=("good", "bad", "old")) as b:
        for number in range(1, 4):
            b.now_ns += S // 10
            b.offer(UnusableImage("wrong_step", "fault"), camera="bad")
            b.offer(stamp_ns=b.now_ns - 9 * S, camera="old")
            b.offer(camera="good")
            b.wait("frames.answered", number, camera="good")
            b.wait("bad.wrong_step", number, camera="bad")
    assert b.total("dropped.stale", camera="old") == 3 and b.total("dropped.stale", camera="good") == 0
    assert any("camera 'bad'" in line for line in b.log.lines)
