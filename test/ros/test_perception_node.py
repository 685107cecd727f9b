"""The perception node as a process, over real DDS, with an engine that needs no model."""

from __future__ import annotations

import array
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")

from peer import PATIENCE_S, Pair, Peer, perceiving, perception_command, red_box, running
from rclpy.qos import ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from support.graph import the_one

from exaone_interfaces.msg import Answer, Decision, Task, Tasks
from exaone_interfaces.srv import GetTasks, SetTasks
from exaone_ros.ros import qos
from exaone_ros.ros.image import rgb_to_image
from exaone_ros.ros.messages import box_of, time_to_ns

S = 1_000_000_000


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """One node for the tests that leave it as it was."""
    with perceiving(tmp_path_factory.mktemp("node")) as made:
        made.peer.warm_up()
        yield made


@pytest.fixture
def peer(pair: Pair) -> Peer:
    """The peer of that node; what it received before is forgotten."""
    pair.peer.received.clear()
    return pair.peer


def test_answers_carry_the_stamp_and_frame_of_the_image(peer: Peer) -> None:
    stamp_ns = peer.send(red_box(10, 20, 30, 44))
    detections = peer.answer("detections", stamp_ns)
    assert detections.header.frame_id == "camera_optical_frame"
    (found,) = detections.detections
    assert box_of(found) == (10, 20, 30, 44) and found.header == detections.header
    assert found.id == "objects/0" and found.results[0].hypothesis.class_id == "red box"
    assert found.results[0].hypothesis.score == 0.75
    counts = peer.answer("counts", stamp_ns)
    assert [(c.task, c.label, c.count, c.probability) for c in counts.counts] == [("object_count", "", 1, 0.5)]
    decision = peer.answer("decision", stamp_ns)
    assert (decision.task, decision.choice, decision.outcome) == ("way", "blocked", Decision.OUTCOME_DONE)
    assert list(decision.options) == ["clear", "blocked", "person"]
    assert sum(decision.probabilities) == pytest.approx(1.0)
    for time in (decision.latency, decision.age, counts.age):
        assert 0 < time.sec * S + time.nanosec < 60 * S


def test_nothing_seen_is_an_answer(peer: Peer) -> None:
    stamp_ns = peer.send(np.zeros((48, 64, 3), np.uint8))
    assert len(peer.answer("detections", stamp_ns).detections) == 0
    assert peer.answer("counts", stamp_ns).counts[0].count == 0
    assert peer.answer("decision", stamp_ns).choice == "clear"


def test_other_encodings_and_padded_rows_are_read(peer: Peer) -> None:
    rgb = red_box(8, 8, 24, 24)
    padded = np.zeros((48, 200), np.uint8)
    padded[:, :192] = rgb[:, :, ::-1].reshape(48, 192)
    message = Image(height=48, width=64, encoding="bgr8", step=200, data=array.array("B", padded.tobytes()))
    stamp_ns = peer.send(message)
    assert box_of(peer.answer("detections", stamp_ns).detections[0]) == (8, 8, 24, 24)


def bad_images() -> dict[str, Image]:
    """One broken image for each kind of fault."""

    def image(**changes: Any) -> Image:
        message = rgb_to_image(np.zeros((4, 6, 3), np.uint8))
        for name, value in changes.items():
            setattr(message, name, value)
        return message

    return {
        "wrong_step": image(step=6),
        "wrong_data_size": image(data=array.array("B", bytes(71))),
        "zero_size": image(width=0),
        "unknown_encoding": image(encoding="rgb9"),
        "not_colour": image(encoding="16UC1", step=12, data=array.array("B", bytes(48))),
        "too_large": image(width=60000, height=60000),
    }


def test_bad_images_are_counted_by_kind_told_once_and_survived(pair: Pair, peer: Peer) -> None:
    last: dict[str, str] = {}
    for reason, message in bad_images().items():
        for number in (1, 2):
            peer.send(message)
            last = peer.counted(f"bad.{reason}", number)
    assert last["state"] == "degraded" and last["level"] == "1"
    stamp_ns = peer.send(red_box(1, 1, 9, 9))
    assert len(peer.answer("detections", stamp_ns).detections) == 1
    for reason in bad_images():
        assert pair.process.output().count(f"bad image ({reason})") == 1


def test_stamps_that_are_not_fresh_are_never_answered(peer: Peer) -> None:
    image = red_box(1, 1, 9, 9)
    fresh = peer.send(image)
    peer.answer("decision", fresh)
    refused = {
        "stale": peer.now_ns() - 120 * S,
        "future_stamp": peer.now_ns() + 60 * S,
        "zero_stamp": 0,
        "out_of_order": fresh - S // 10,
        "repeated_stamp": fresh,
    }
    for reason, stamp_ns in refused.items():
        peer.send(image, stamp_ns)
        peer.counted(f"dropped.{reason}")
    peer.answer("decision", peer.send(image))
    del refused["repeated_stamp"]
    for topic in ("detections", "counts", "decision"):
        assert [time_to_ns(m.header.stamp) for m in peer.received[topic]].count(fresh) == 1  # the repeated one
        assert not any(peer.find(topic, stamp_ns) for stamp_ns in refused.values())


def test_tasks_are_replaced_as_a_whole_while_running(peer: Peer) -> None:
    before = peer.call(GetTasks, "get_tasks", GetTasks.Request()).tasks
    assert [task.name for task in before] == ["objects", "object_count", "way"]
    wrong = [
        Task(name="good", kind="ground"),
        Task(name="lonely", kind="decide", instruction="Well?", options=["only one"]),
        Task(name="odd", kind="guess"),
    ]
    response = peer.call(SetTasks, "set_tasks", SetTasks.Request(tasks=wrong))
    assert not response.success and len(response.problems) == 2
    assert "lonely" in response.problems[0] and "odd" in response.problems[1]
    assert not peer.call(SetTasks, "set_tasks", SetTasks.Request(tasks=[])).success
    assert peer.call(GetTasks, "get_tasks", GetTasks.Request()).tasks == before

    fruit = Task(name="fruit", kind="count", classes=["red ball", "mug"], rate=0.5, priority=2, deadline=0.75)
    assert peer.call(SetTasks, "set_tasks", SetTasks.Request(tasks=[fruit])).success
    (got,) = peer.call(GetTasks, "get_tasks", GetTasks.Request()).tasks
    assert (list(got.classes), got.rate, got.priority, got.deadline) == (["red ball", "mug"], 0.5, 2, 0.75)
    stamp_ns = peer.send(red_box(1, 1, 9, 9))
    counts = peer.answer("counts", stamp_ns).counts
    assert [(count.task, count.label) for count in counts] == [("fruit", "red ball"), ("fruit", "mug")]
    assert peer.find("decision", stamp_ns) is None
    assert peer.call(SetTasks, "set_tasks", SetTasks.Request(tasks=before)).success


def test_diagnostics_do_not_grow_with_tasks_that_come_and_go(peer: Peer) -> None:
    before = peer.call(GetTasks, "get_tasks", GetTasks.Request()).tasks

    def told() -> set[str]:
        return {key for key in peer.diagnostics() if key.startswith(("task.", "failed."))}

    def ask_for(*names: str) -> None:
        tasks = [Task(name=name, kind="decide", instruction="Well?", options=["yes", "no"]) for name in names]
        assert peer.call(SetTasks, "set_tasks", SetTasks.Request(tasks=tasks)).success

    for names in (("a", "stays"), ("b", "stays"), ("stays",)):
        ask_for(*names)
        expected = {f"task.{name}" for name in names}
        peer.stream(red_box(1, 1, 9, 9), lambda expected=expected: told() == expected, f"diagnostics of {names}")
    assert peer.call(SetTasks, "set_tasks", SetTasks.Request(tasks=before)).success


def test_the_tasks_are_latched_and_one_that_is_added_is_asked_on_the_next_frame(peer: Peer) -> None:
    before = peer.call(GetTasks, "get_tasks", GetTasks.Request()).tasks
    peer.listen(Tasks, "tasks", qos.latched())  # long after they were published
    (said,) = peer.wait(lambda: peer.received["tasks"], "the latched tasks")
    assert said.tasks == before and said.stamp.sec > 0
    added = Task(name="rare", kind="count", rate=0.02)
    assert peer.call(SetTasks, "set_tasks", SetTasks.Request(tasks=[*before, added])).success
    stamp_ns = peer.send(red_box(1, 1, 9, 9))
    assert {count.task for count in peer.answer("counts", stamp_ns).counts} == {"object_count", "rare"}
    assert peer.wait(lambda: peer.received["tasks"][1:], "the new tasks")[0].tasks[-1].name == "rare"
    assert not peer.call(SetTasks, "set_tasks", SetTasks.Request(tasks=[])).success
    assert peer.call(SetTasks, "set_tasks", SetTasks.Request(tasks=before)).success
    assert peer.wait(lambda: peer.received["tasks"][2:], "the tasks as before")[0].tasks == before  # no refused ones


def test_a_standing_question_in_words_is_answered_on_its_topic(peer: Peer) -> None:
    before = peer.call(GetTasks, "get_tasks", GetTasks.Request()).tasks
    words = Task(name="words", kind="ask", instruction="What is there?", rate=5.0)
    assert peer.call(SetTasks, "set_tasks", SetTasks.Request(tasks=[*before, words])).success
    peer.listen(Answer, "answer")
    image = red_box(1, 1, 9, 9)
    said = peer.stream(image, lambda: peer.received["answer"], "an answer in words")[0]
    assert (said.task, said.question, said.text) == ("words", "What is there?", "I see 1 red of 1")
    assert (said.outcome, said.message, said.header.frame_id) == (Answer.OUTCOME_DONE, "", "camera_optical_frame")
    assert peer.call(SetTasks, "set_tasks", SetTasks.Request(tasks=before)).success
    peer.answer("decision", peer.send(image))  # nothing of the above is still on its way


def test_one_failing_task_is_named_and_spares_the_others(peer: Peer) -> None:
    before = peer.call(GetTasks, "get_tasks", GetTasks.Request()).tasks
    broken = Task(name="broken", kind="decide", instruction="Well?", options=["yes", "no"])
    assert peer.call(SetTasks, "set_tasks", SetTasks.Request(tasks=[*before, broken])).success
    stamp_ns = peer.send(red_box(1, 1, 9, 9))
    peer.answer("detections", stamp_ns)
    failed = peer.wait(
        lambda: next((m for m in list(peer.received["decision"]) if m.task == "broken"), None), "the failed decision"
    )
    assert failed.outcome == Decision.OUTCOME_FAILED and failed.choice == "" and "told to fail" in failed.message
    assert peer.counted("failed.broken")["state"] in ("degraded", "ok")
    assert peer.call(SetTasks, "set_tasks", SetTasks.Request(tasks=before)).success


def test_live_parameters_change_at_once_and_the_rest_waits_for_configure(peer: Peer) -> None:
    ok, reason = peer.set_parameter("image_topic", "elsewhere")
    assert not ok and "read at configure" in reason
    ok, reason = peer.set_parameter("max_age_s", -1.0)
    assert not ok and "max_age_s" in reason
    ok, reason = peer.set_parameter("max_age_s", float("nan"))
    assert not ok and "max_age_s" in reason
    assert peer.set_parameter("max_age_s", 30.0) == (True, "")
    stamp_ns = peer.send(red_box(1, 1, 9, 9), peer.now_ns() + S // 100)
    peer.answer("detections", stamp_ns)
    assert peer.set_parameter("max_age_s", 60.0)[0]


def test_the_life_cycle_can_be_gone_through_again_and_again(peer: Peer) -> None:
    assert peer.lifecycle_state() == "active"
    for _ in range(2):
        assert peer.transition("deactivate")
        peer.state_of_health("inactive")
        assert peer.transition("cleanup")
        assert peer.lifecycle_state() == "unconfigured"
        assert peer.call(GetTasks, "get_tasks", GetTasks.Request()).tasks == []
        assert peer.transition("configure") and peer.transition("activate")
        peer.received.clear()
        peer.warm_up()
    assert not peer.transition("cleanup")  # not from active
    assert peer.lifecycle_state() == "active"


def test_diagnostics_say_what_runs_how_fast_and_how_old(peer: Peer) -> None:
    already = int(peer.counted("frames.received", 0).get("frames.answered", "0"))
    for _ in range(5):
        peer.answer("decision", peer.send(red_box(1, 1, 9, 9)))
    seen = peer.counted("frames.answered", already + 5)
    assert seen["hardware"] == "exaone4_5-tabletop-tiny on onnxruntime (cpu)"
    assert seen["stage.encode.p50"] == "4.00 ms" and seen["tokens_per_s"] == "1000" and seen["kept_mb"] == "2.5"
    for key in ("rate", "answered_rate", "age.arrival.p95", "age.answer.p50", "stage.total.p95", "task.way"):
        assert float(seen[key].split()[0]) > 0, key


def test_compressed_images(tmp_path: Path) -> None:
    rgb = red_box(8, 16, 40, 32)
    png = cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))[1]
    whole = CompressedImage(format="rgb8; png compressed bgr8", data=array.array("B", png.tobytes()))
    half = CompressedImage(format=whole.format, data=whole.data[: len(whole.data) // 2])
    topic = "image_raw/compressed"
    with perceiving(tmp_path, image_transport="compressed") as pair:
        peer = pair.peer
        found = peer.stream(whole, lambda: peer.received["detections"], "detections", topic=topic)
        assert box_of(found[0].detections[0]) == (8, 16, 40, 32)
        peer.send(half, topic=topic)
        peer.counted("bad.undecodable")


def test_simulated_time_and_its_reset(tmp_path: Path) -> None:
    image = red_box(1, 1, 9, 9)
    with perceiving(tmp_path, use_sim_time=True) as pair:
        peer = pair.peer

        def dropped() -> bool:
            return "dropped.no_clock" in peer.diagnostics()

        # Before the first /clock nothing can be shown to be fresh.
        peer.stream(image, dropped, "an image without a clock", stamp_ns=5 * S)

        def answered(now_ns: int) -> bool:
            peer.clock(now_ns)  # clock and image travel on two topics: sent again until the image finds its time
            return peer.find("decision", now_ns) is not None

        for second in (100, 101, 2, 3):  # after 101 the simulator is reset
            now_ns = second * S
            peer.stream(image, lambda now_ns=now_ns: answered(now_ns), "an answer in simulated time", stamp_ns=now_ns)
            age = peer.find("decision", now_ns).age
            assert (age.sec, age.nanosec) == (0, 0)
        assert peer.counted("clock.restarts")["clock.restarts"] == "1"


def test_answers_that_come_too_late_are_not_published(tmp_path: Path) -> None:
    with perceiving(tmp_path, "--delay-s", "30", max_age_s=0.3) as pair:
        peer = pair.peer
        seen = peer.stream(
            red_box(1, 1, 9, 9),
            lambda: d if (d := peer.diagnostics()).get("state") == "engine_slow" else None,
            "slowness",
        )
        assert seen["level"] == "1" and "max_age" in seen["reason"] and int(seen["dropped.late"]) > 0
        assert not any(peer.received[topic] for topic in ("detections", "counts", "decision"))


def test_a_silent_camera_and_a_failing_engine_have_names_and_pass(tmp_path: Path) -> None:
    with perceiving(tmp_path, "--failures", "2", camera_timeout_s=0.1) as pair:
        peer = pair.peer
        assert "nobody publishes" in peer.state_of_health("stale_camera")["reason"]
        assert peer.set_parameter("camera_timeout_s", 60.0)[0]
        image = red_box(1, 1, 9, 9)
        failed = peer.stream(
            image, lambda: d if (d := peer.diagnostics()).get("state") == "engine_failed" else None, "the failure"
        )
        assert failed["level"] == "2"
        peer.warm_up()
        peer.state_of_health("ok")


def test_a_camera_of_another_type_is_named(tmp_path: Path) -> None:
    with perceiving(tmp_path, camera_timeout_s=0.1) as pair:
        peer = pair.peer
        peer.publisher(CompressedImage, "image_raw")
        hint = (
            f"on /{peer.namespace}/image_raw as they are expected here: what is published there is sensor_msgs/msg/Com"
        )
        seen = peer.wait(lambda: d if hint in (d := peer.diagnostics()).get("reason", "") else None, hint)
        assert seen["state"] == "stale_camera" and seen["publishers"] == "0"


def test_a_camera_that_offers_less_is_named(tmp_path: Path) -> None:
    with perceiving(tmp_path, camera_timeout_s=0.1) as pair:
        pair.peer.publisher(Image, reliable=False)
        hint = "best_effort"
        seen = pair.peer.wait(lambda: d if hint in (d := pair.peer.diagnostics()).get("reason", "") else None, hint)
        assert seen["publishers"] == "1"
        assert seen["state"] == "stale_camera"


def test_a_best_effort_camera_is_heard_when_asked_for(tmp_path: Path) -> None:
    with perceiving(tmp_path, reliability="best_effort") as pair:
        peer = pair.peer
        peer.publisher(Image, reliable=False)
        peer.stream(red_box(1, 1, 9, 9), lambda: peer.received["decision"], "an answer", reliable=False)


def test_the_qos_of_topics_is_overridden_and_a_wrong_name_refused(tmp_path: Path) -> None:
    overrides: dict[str, Any] = {
        "qos_overrides./NS/image_raw.subscription.reliability": "best_effort",
        "qos_overrides./NS/decision.publisher.reliability": "best_effort",
        "qos_overrides./NS/decision.publisher.depth": 3,
    }
    with perceiving(tmp_path, **overrides) as pair:
        peer = pair.peer
        peer.publisher(Image, reliable=False)  # would not match a reliable subscription
        peer.stream(red_box(1, 1, 9, 9), lambda: peer.received["counts"], "an answer", reliable=False)
        decision = the_one(lambda: peer.node.get_publishers_info_by_topic(f"/{peer.namespace}/decision"))
        counts = the_one(lambda: peer.node.get_publishers_info_by_topic(f"/{peer.namespace}/counts"))
        assert decision.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT
        assert counts.qos_profile.reliability == ReliabilityPolicy.RELIABLE
    wrong = {"qos_overrides./NS/desicion.publisher.depth": 3}
    with perceiving(tmp_path, **wrong) as pair:
        reason = pair.peer.state_of_health("configure_failed")["reason"]
        assert "desicion" in reason and f"/{pair.peer.namespace}/decision.publisher" in reason
    with perceiving(tmp_path, **{"qos_overrides./NS/image_raw.subscription.depth": 0}) as pair:
        assert "subscription.depth' is 0; expected" in pair.peer.state_of_health("configure_failed")["reason"]


def test_several_faults_in_the_parameters_are_told_together(tmp_path: Path) -> None:
    with perceiving(tmp_path, max_agee_s=1.0, threads=-3, backend="abacus", image_topic=7, max_age_s=2) as pair:
        seen = pair.peer.state_of_health("configure_failed")
        for part in ("did you mean 'max_age_s'", "'threads' is -3", "onnxruntime, tensorrt", "'image_topic' is 7"):
            assert part in seen["reason"]
        assert "'max_age_s' is" not in seen["reason"]  # an integer will do for a float
        assert seen["level"] == "2" and pair.peer.lifecycle_state() == "unconfigured"
        assert not pair.peer.transition("configure")


def test_an_empty_list_ends_the_start_with_a_line(tmp_path: Path) -> None:
    with running(perception_command("empty", cameras=[]), tmp_path / "log") as process:
        assert process.process.wait(PATIENCE_S) == 1
        output = process.output()
    assert "error: 'cameras' is given without a value, or as an empty list" in output and "Traceback" not in output


def test_a_fault_in_the_parameters_can_be_put_right(tmp_path: Path) -> None:
    with perceiving(tmp_path, max_age_s=-1.0) as pair:
        assert "max_age_s" in pair.peer.state_of_health("configure_failed")["reason"]
        assert pair.peer.set_parameter("max_age_s", 30.0)[0]
        assert pair.peer.transition("configure") and pair.peer.transition("activate")
        pair.peer.warm_up()


@pytest.fixture(scope="module")
def unconfigured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Pair, Path]]:
    """A node that waits to be configured, and a folder with a bad task file and odd models."""
    folder = tmp_path_factory.mktemp("unconfigured")
    for name in ("broken", "buggy"):
        (folder / name).mkdir()
    (folder / "bad.yaml").write_text("lonely: {kind: decide, instruction: Well?, options: [one]}\n", encoding="utf-8")
    with perceiving(folder, autostart=False) as pair:
        yield pair, folder


@pytest.mark.parametrize(
    ("parameter", "value", "reason"),
    [
        ("tasks_file", "/nowhere/tasks.yaml", "cannot be read"),
        ("tasks_file", "TMP/bad.yaml", "lonely"),
        ("image_topic", "no spaces/please", "image_topic"),
        ("model", "/nowhere/model", "directory of a checkpoint"),
        ("model", "TMP/broken", "config.json"),
        ("image_converter", "cv_bridge", "cv_bridge does not work here"),
        ("model", "TMP/buggy", "a bug in the engine"),
    ],
)
def test_a_bad_configuration_is_refused_with_its_reason(
    unconfigured: tuple[Pair, Path], parameter: str, value: str, reason: str
) -> None:
    (pair, folder), peer = unconfigured, unconfigured[0].peer
    if value == "cv_bridge" and importlib.util.find_spec("cv_bridge"):
        pytest.skip("this ROS has a cv_bridge")
    assert peer.set_parameter(parameter, value.replace("TMP", str(folder)))[0]
    assert not peer.transition("configure")
    assert peer.lifecycle_state() == "unconfigured"
    peer.wait(lambda: reason in peer.diagnostics().get("reason", ""), reason)
    assert ("Traceback" in pair.process.output()) == ("buggy" in value)  # only what was not foreseen needs one
    good = {"image_topic": "image_raw", "image_converter": "auto"}.get(parameter, "")
    assert peer.set_parameter(parameter, good)[0]
    assert peer.transition("configure") and peer.transition("cleanup")
