"""The perception node as it ships: its own entry point, the real engine, a checkpoint, real images over real DDS."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime  # noqa: F401  (the tests need it; without it they are not collected)
import pytest

pytest.importorskip("rclpy")

from ask_client import AskClient
from model.tiny_checkpoint import random_weights, write_safetensors
from peer import ANSWERS, LOADING_S, Pair, Peer, perceiving

from exaone_interfaces.action import Ask
from exaone_interfaces.msg import Decision, Status, Task
from exaone_ros.ros.messages import box_of, time_to_ns

BUNDLED = Path(__file__).parents[2] / "models" / "exaone4_5-tabletop-tiny"
NODE = ("-m", "exaone_ros.nodes.perception")
WIDTH, HEIGHT = 320, 240


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled checkpoint, or one like it with random weights where the weights are not there."""
    if (BUNDLED / "model.safetensors").exists():
        return BUNDLED
    folder = shutil.copytree(BUNDLED, tmp_path_factory.mktemp("checkpoint") / "random")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    write_safetensors(folder / "model.safetensors", random_weights(config))
    return folder


@pytest.fixture(scope="module")
def pair(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("node")
    with perceiving(folder, command=NODE, model=str(checkpoint), threads=1, max_age_s=600.0) as made:
        yield made


def answered_whole(peer: Peer) -> Decision | None:
    """A decision on an image whose other answers are there, too.

    Of the first answers some may be missing for good: each topic is matched by itself, and what a publisher sends
    before it knows the subscription is lost.
    """
    for decision in peer.received["decision"]:
        stamp_ns = time_to_ns(decision.header.stamp)
        if all(peer.find(topic, stamp_ns) for topic in ANSWERS):
            return decision
    return None


def test_real_answers_to_a_real_image(pair: Pair) -> None:
    peer = pair.peer
    image = np.full((HEIGHT, WIDTH, 3), 170, np.uint8)
    image[100:160, 120:180] = (210, 30, 25)
    decision = peer.stream(
        image, lambda: answered_whole(peer), "all answers to one image", every_s=1.0, patience_s=LOADING_S
    )
    assert decision.choice in decision.options and decision.message == ""
    assert list(decision.options) == ["clear", "blocked", "person"]
    assert sum(decision.probabilities) == pytest.approx(1.0, abs=1e-5)
    assert decision.probabilities[list(decision.options).index(decision.choice)] > 0
    stamp_ns = time_to_ns(decision.header.stamp)
    detections = peer.answer("detections", stamp_ns)
    assert detections.header == decision.header and detections.header.frame_id == "camera_optical_frame"
    for found in detections.detections:
        x1, y1, x2, y2 = box_of(found)
        assert 0 <= x1 < x2 <= WIDTH and 0 <= y1 < y2 <= HEIGHT
        assert found.results[0].hypothesis.class_id and 0 <= found.results[0].hypothesis.score <= 1
    (count,) = peer.answer("counts", stamp_ns).counts
    assert count.task == "object_count" and 0 <= count.count <= 99 and 0 < count.probability <= 1
    seen = peer.wait(
        lambda: d if "stage.encode.p50" in (d := peer.diagnostics()) else None, "the stages in diagnostics"
    )
    for stage in ("convert", "preprocess", "encode", "prefix", "prefill", "decode", "grammar", "total"):
        assert float(seen[f"stage.{stage}.p50"].split()[0]) > 0, stage
    assert float(seen["tokens_per_s"]) > 0


def test_the_real_engine_answers_a_goal_beside_the_standing_tasks(pair: Pair) -> None:
    client = AskClient(pair.peer)
    image = np.full((HEIGHT, WIDTH, 3), 120, np.uint8)
    way = Task(name="asked", kind="decide", instruction="Is the way clear?", options=["clear", "blocked", "person"])
    words = Task(name="words", kind="ask", instruction="What is on the table?", max_tokens=8)
    goals = [client.ask(way), client.ask(words)]
    pair.peer.stream(
        image, lambda: all(goal.answer for goal in goals), "both results", every_s=1.0, patience_s=LOADING_S
    )
    decided, said = (goal.answer.result for goal in goals)
    assert decided.error_code == said.error_code == Ask.Result.ERROR_NONE, (decided.error_msg, said.error_msg)
    assert decided.choice in decided.options and sum(decided.probabilities) == pytest.approx(1.0, abs=1e-5)
    assert said.headers[0].frame_id == "camera_optical_frame"

    def streamed() -> str:
        return "".join(piece.text for piece in goals[1].feedback).strip()

    pair.peer.wait(lambda: streamed() == said.answer.strip(), "all of the text")


def test_an_image_that_the_model_does_not_take_is_a_bad_image(pair: Pair) -> None:
    peer, ribbon = pair.peer, np.zeros((2, 2000, 3), np.uint8)

    def refused() -> bool:
        return int(peer.diagnostics().get("bad.refused_by_engine", "0")) >= 1

    peer.stream(ribbon, refused, "a refused image", every_s=1.0, patience_s=LOADING_S)


def test_configuring_again_gives_the_memory_back_and_answers_again(pair: Pair) -> None:
    peer = pair.peer
    image = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    # also where this test runs alone, and the node has only just begun
    peer.stream(image, lambda: peer.received["decision"], "a decision", every_s=1.0, patience_s=LOADING_S)
    for name in ("deactivate", "cleanup", "configure", "activate"):
        assert peer.transition(name), name
    asked_ns = peer.now_ns()  # what is answered from here on is answered by the new engine

    def answered_anew() -> bool:
        return any(time_to_ns(decision.header.stamp) > asked_ns for decision in peer.received["decision"])

    peer.stream(image, answered_anew, "a decision of the new engine", every_s=1.0, patience_s=LOADING_S)


def test_one_question_about_two_cameras(checkpoint: Path, tmp_path: Path) -> None:
    cameras = {"cameras": ["left", "right"], "sync_tolerance_s": 60.0, "max_age_s": 600.0, "ask_deadline_s": 600.0}
    with perceiving(tmp_path, command=NODE, model=str(checkpoint), threads=1, **cameras) as made:
        goal = AskClient(made.peer).ask(Task(name="both", kind="count"), "left", "right")
        image = np.full((HEIGHT, WIDTH, 3), 120, np.uint8)

        def answered() -> bool:
            made.peer.send(image, topic="right/image_raw")
            return goal.answer is not None

        made.peer.stream(image, answered, "a result", every_s=1.0, patience_s=LOADING_S, topic="left/image_raw")
        result = goal.answer.result
        assert result.error_code == Ask.Result.ERROR_NONE, result.error_msg
        assert len(result.headers) == 2 and len(result.counts) == 1 and 0 < result.scores[0] <= 1


def test_a_backend_that_breaks_is_replaced_in_place(checkpoint: Path, tmp_path: Path) -> None:
    command = (str(Path(__file__).with_name("failing_backend.py")),)
    values = {"threads": 1, "max_age_s": 600.0, "camera_timeout_s": 600.0, "engine_restart_after": 2}
    with perceiving(tmp_path, command=command, model=str(checkpoint), **values) as made:
        peer = made.peer
        peer.listen(Status, "status")
        image = np.full((HEIGHT, WIDTH, 3), 120, np.uint8)

        def said(state: str, restarts: int) -> Status | None:
            return next((s for s in peer.received["status"] if (s.state, s.engine_restarts) == (state, restarts)), None)

        failed = peer.stream(image, lambda: said("engine_failed", 0), "the failure", every_s=0.5, patience_s=LOADING_S)
        assert "the device was lost" in failed.reason
        again_ns = peer.now_ns()
        recovered = peer.stream(
            image, lambda: said("ok", 1) or said("degraded", 1), "the recovery", every_s=0.5, patience_s=LOADING_S
        )
        assert recovered.engine_restarts == 1

        def decided_anew() -> bool:
            """On an image that was sent after the failure."""
            late = (d for d in peer.received["decision"] if time_to_ns(d.header.stamp) > again_ns)
            return any(d.outcome == d.OUTCOME_DONE for d in late)

        peer.stream(image, decided_anew, "a decision of the new engine", every_s=0.5, patience_s=LOADING_S)
        assert made.process.output().count("opening the engine anew") == 1


def test_a_checkpoint_that_is_cut_off_is_refused_at_configure(checkpoint: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoint, tmp_path / "cut")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with perceiving(tmp_path, command=NODE, model=str(folder), threads=1) as pair:
        seen = pair.peer.state_of_health("configure_failed")
        assert "CheckpointError" in seen["reason"] and "model.safetensors" in seen["reason"]
        assert pair.peer.lifecycle_state() == "unconfigured" and "Traceback" not in pair.process.output()
