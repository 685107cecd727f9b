"""A bag is answered as the camera was: the same stamps and, from the same checkpoint, the same answers."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnxruntime  # noqa: F401  (the perception process needs it)
import pytest
import rclpy
import rosbags  # noqa: F401

pytest.importorskip("rclpy")
pytest.importorskip("mujoco")

from data.make_tabletop_bag import record
from rclpy.qos import ReliabilityPolicy
from support.graph import the_one

from exaone_ros.errors import ExaoneError
from exaone_ros.nodes import replay
from exaone_ros.nodes.replay import CAMERA_TOPICS
from exaone_ros.nodes.scenario import RECORDED, Running, closed_loop
from exaone_ros.ros.bag import message_class, read_bag
from exaone_ros.ros.closed_loop import ANSWERS, LoopError, labelled
from exaone_ros.ros.messages import time_to_ns
from exaone_ros.ros.parameters import ParameterError
from exaone_ros.ros.replay import BagPlayer
from exaone_ros.view.tally import Tally, TrueObject

ROOT = Path(__file__).parents[2]
BUNDLED_BAG = ROOT / "test" / "data" / "tabletop_bag"
WEIGHTS = ROOT / "models" / "exaone4_5-tabletop-tiny" / "model.safetensors"
MAX_BYTES = 5_000_000
RESEND_S = 3.0
"""An image that was taken is not answered twice: its stamp repeats. One that was lost is sent again."""

needs_weights = pytest.mark.skipif(not WEIGHTS.exists(), reason="the bundled checkpoint's weights are not there")


def messages_of(bag: Path) -> dict[str, dict[int, Any]]:
    """Messages of a bag by topic and stamp."""
    found: dict[str, dict[int, Any]] = defaultdict(dict)
    for recorded in read_bag(bag):
        message = recorded.message()
        assert time_to_ns(message.header.stamp) == recorded.time_ns
        found[recorded.topic][recorded.time_ns] = message
    return found


def plain(name: str, message: Any) -> tuple[Any, list[float]]:
    """What an answer says, without how long it took, and how sure it is."""
    if name == "detections":
        found = [(d.id, d.results[0].hypothesis.class_id, d.bbox) for d in message.detections]
        return found, [d.results[0].hypothesis.score for d in message.detections]
    if name == "counts":
        return [(c.task, c.label, c.count) for c in message.counts], [c.probability for c in message.counts]
    return (message.choice, message.reason, message.outcome), list(message.probabilities)


def replayed(running: Running, bag: Path) -> dict[int, dict[str, Any]]:
    """Play a bag's camera; waits for the answers to each image before the next one comes."""
    loop = running.loop
    loop.forget()
    tries: Counter[int] = Counter()

    def wait(time_ns: int, _since_ns: int) -> bool:
        tries[time_ns] += 1
        try:
            return loop.wait(
                lambda: len(loop.answers(time_ns)) == len(ANSWERS) or None, "answers to a replayed image", RESEND_S
            )
        except LoopError:
            # Until the first answer the player may not have been found yet, and the clock not have gone back.
            assert tries[time_ns] < 40, f"the image of {time_ns} was not answered"
            return False

    player = BagPlayer(running.node, bag, CAMERA_TOPICS)
    played = list(player.play(wait))
    assert played == [time_ns for time_ns, _ in player.moments]
    return {time_ns: loop.answers(time_ns) for time_ns in played}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Path]]:
    """A perception node that has answered a live scene, whose simulator has ended; and the bag of that scene."""
    folder = tmp_path_factory.mktemp("live")
    with closed_loop(folder, transport="compressed", threads=1) as running:
        glimpses = record(running, folder / "bag")
        assert len(glimpses) == 9
        running.end_simulator()
        yield running, folder / "bag"


@needs_weights
@pytest.mark.slow
def test_a_replayed_bag_gets_the_answers_that_it_got_live(live: tuple[Running, Path]) -> None:
    running, bag = live
    recorded = messages_of(bag)
    stamps = sorted(recorded["/head_camera/image_raw/compressed"])
    assert len(stamps) == 9 and all(sorted(recorded[topic]) == stamps for topic in RECORDED)
    heard = replayed(running, bag)
    for stamp_ns in stamps:
        for name in ANSWERS:
            live_answer, answer = recorded[f"/exaone/{name}"][stamp_ns], heard[stamp_ns][name]
            assert answer.header == live_answer.header
            said, live_said = plain(name, answer), plain(name, live_answer)
            assert said[0] == live_said[0], f"{name} of {stamp_ns}"
            # How many tokens share a call of the decoder depends on what was drafted: that moves the last digits.
            assert said[1] == pytest.approx(live_said[1], abs=1e-4), f"{name} of {stamp_ns}"


@needs_weights
@pytest.mark.slow
def test_the_bundled_bag_is_answered_image_by_image(live: tuple[Running, Path]) -> None:
    running, _ = live
    recorded = messages_of(BUNDLED_BAG)
    heard = replayed(running, BUNDLED_BAG)
    tally = Tally()
    for stamp_ns, image in recorded["/head_camera/image_raw/compressed"].items():
        shown = labelled(recorded["/ground_truth/detections"][stamp_ns])
        truth = [TrueObject(entry.label, entry.box, entry.score) for entry in shown]
        assert all(answer.header == image.header for answer in heard[stamp_ns].values())
        tally.decision(heard[stamp_ns]["decision"].choice, truth)
    assert sum(tally.decisions) >= 0.8 * len(tally.decisions)  # whatever checkpoint is bundled


def test_the_bundled_bag_is_small_and_says_what_is_true() -> None:
    assert sum(file.stat().st_size for file in BUNDLED_BAG.iterdir()) <= MAX_BYTES
    recorded = messages_of(BUNDLED_BAG)
    assert set(recorded) == set(RECORDED)
    stamps = sorted(recorded["/head_camera/image_raw/compressed"])
    assert all(sorted(messages) == stamps for messages in recorded.values())
    shown = [[entry.label for entry in labelled(recorded["/ground_truth/detections"][stamp])] for stamp in stamps]
    assert shown[0] == [] and ["person" in labels for labels in shown].count(True) == 1
    assert max(len(labels) for labels in shown) == 3


def own_publishers(node: Any, topic: str) -> list[Any]:
    """Without those of the players before, which are there as long as their node is."""
    return [end for end in node.get_publishers_info_by_topic(topic) if end.node_name == node.get_name()]


def test_the_qos_of_a_replay_is_overridden_and_a_wrong_name_refused() -> None:
    for name, reason in (("raw/compressed", ""), ("raw", "has no effect")):
        override = rclpy.Parameter(
            f"qos_overrides./head_camera/image_{name}.publisher.reliability", value="best_effort"
        )
        context = rclpy.Context()
        rclpy.init(context=context)
        node = rclpy.create_node(
            "player",
            context=context,
            parameter_overrides=[override],
            automatically_declare_parameters_from_overrides=True,
        )
        try:
            if reason:
                with pytest.raises(ParameterError, match=reason):
                    BagPlayer(node, BUNDLED_BAG, CAMERA_TOPICS)
            else:
                BagPlayer(node, BUNDLED_BAG, CAMERA_TOPICS)
                end = the_one(lambda: own_publishers(node, CAMERA_TOPICS[0]))  # noqa: B023
                assert end.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT
        finally:
            node.destroy_node()
            rclpy.try_shutdown(context=context)


@pytest.mark.parametrize("words", [("-p", "nonsense"), ("--params-file", "no/such.yaml")])
def test_a_replay_with_a_bad_command_line_ends_with_a_reason(
    words: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        replay.main([str(BUNDLED_BAG), "--ros-args", *words])
    said = capsys.readouterr().err
    assert words[1] in said and ".c:" not in said


def test_bags_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ExaoneError, match="cannot be read"):
        list(read_bag(tmp_path))
    with pytest.raises(ExaoneError, match="no topic /depth"):
        list(read_bag(BUNDLED_BAG, ["/depth"]))
    with pytest.raises(ExaoneError, match="nowhere_msgs"):
        message_class("nowhere_msgs/msg/Thing")
