"""The companion node over real DDS: the annotated image, drawn only while somebody looks."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rclpy")

import yaml
from companion_peer import FRAME_ID, accompanied, answer, counts, decision, detections, header
from rclpy.qos import ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from support.graph import the_one

from exaone_ros.ros.annotated import Newest, jpeg_message, lines_of
from exaone_ros.ros.companion_settings import PARAMETERS
from exaone_ros.ros.image import compressed_image_to_rgb, image_to_rgb, rgb_to_image
from exaone_ros.ros.messages import time_to_ns
from exaone_ros.ros.parameters import ParameterError
from exaone_ros.share import share_path

BEST_EFFORT = ReliabilityPolicy.BEST_EFFORT
GREY = np.full((48, 64, 3), 90, np.uint8)


def test_answers_are_drawn_onto_the_image_that_they_were_read_from() -> None:
    with accompanied("drawn") as peer:
        peer.listen(Image, "annotated")

        def look(stamp_ns: int) -> None:
            peer.send("image_raw", rgb_to_image(GREY, header(stamp_ns)))
            # A perception node answers later; here the companion must have the image first.
            if peer.companion.images_held:
                stamp_ns = peer.companion.newest_image_ns
                peer.send("detections", detections(stamp_ns, ("red cube", (10, 8, 40, 30))))
                peer.send("counts", counts(stamp_ns, 1))
                peer.send("decision", decision(stamp_ns, "blocked"))

        message = peer.stream(look, lambda: peer.received["annotated"][0:1], "an annotated image")[0]
    picture = image_to_rgb(message)
    assert message.header.frame_id == FRAME_ID and time_to_ns(message.header.stamp) > 0
    assert picture.shape[1] == 64 and picture.shape[0] > 48
    assert (picture[8, 20:30] != 90).any() and (picture[45, 60] == 90).all()


def test_without_a_subscriber_nothing_is_subscribed_to_or_drawn() -> None:
    with accompanied("lazy", image_transport="compressed", jpeg_quality=95) as peer:
        jpeg = jpeg_message(GREY, header(1), 95)
        assert not peer.companion.takes_images
        subscription = peer.listen(CompressedImage, "annotated/compressed")
        peer.wait(lambda: peer.companion.takes_images, "an image subscription")

        def look(stamp_ns: int) -> None:
            jpeg.header = header(stamp_ns)
            peer.send("image_raw/compressed", jpeg)
            if peer.companion.images_held:
                peer.send("counts", counts(peer.companion.newest_image_ns, 1))  # no ground task: no boxes

        found = peer.stream(look, lambda: peer.received["annotated/compressed"][0:1], "a picture")[0]
        picture = compressed_image_to_rgb(found)
        assert abs(int(picture[20, 20, 0]) - 90) < 4
        peer.node.destroy_subscription(subscription)
        peer.wait(lambda: not peer.companion.takes_images, "the end of the image subscription")
        peer.wait(lambda: not peer.companion.images_held, "the images to be let go")


def test_what_was_read_from_an_earlier_image_says_so() -> None:
    s = 1_000_000_000
    newest = Newest()
    newest.take_counts(counts(10 * s, 3))
    newest.take_decision(decision(8 * s, "clear"))
    assert lines_of(newest, 10 * s, 640) == ["count  all: 3", "clear (0.25) [2.0 s before]"]
    assert lines_of(Newest(), 10 * s, 640) == ["", ""]


def test_counts_of_other_tasks_stay() -> None:
    s = 1_000_000_000
    newest = Newest()
    newest.take_counts(counts(10 * s, 3))
    newest.take_counts(counts(9 * s, 2, task="mugs", label="mug"))
    newest.take_counts(counts(11 * s, 4))
    assert lines_of(newest, 11 * s, 640)[0] == "count  all: 4  mug: 2 [2.0 s before]"


def test_what_is_of_tasks_that_are_gone_is_left_out_after_a_minute() -> None:
    s = 1_000_000_000
    newest = Newest()
    newest.take_counts(counts(100 * s, 3, task="mugs", label="mug"))
    newest.take_decision(decision(100 * s, "clear"))
    newest.take_answer(answer(100 * s, "A red cube."))
    newest.take_counts(counts(161 * s, 4))
    assert "mug: 3 [59.0 s before]" in lines_of(newest, 159 * s, 640)[0]
    assert lines_of(newest, 161 * s, 640) == ["count  all: 4", "", "", ""], "of the same size"


def test_answers_in_words_stand_in_two_lines() -> None:
    s = 1_000_000_000
    newest = Newest()
    newest.take_answer(answer(9 * s, "A red cube."))
    assert lines_of(newest, 10 * s, 640) == ["", "", "table: A red cube. [1.0 s before]", ""]
    newest.take_answer(answer(10 * s, "word " * 100))
    first, second = lines_of(newest, 10 * s, 640)[2:]
    assert first.startswith("table: word word") and second.endswith(" ...")
    newest.take_answer(answer(10 * s, ""))
    assert lines_of(newest, 10 * s, 640)[2] == "table: no answer"
    for number in range(30):
        newest.take_answer(answer(10 * s, "yes", task=f"task{number}"))
    assert len(newest.answers) == 8 and "task29" in newest.answers


def test_an_answer_to_an_older_image_does_not_take_the_picture_back() -> None:
    with accompanied("forward") as peer:
        peer.listen(Image, "annotated")
        sent: list[int] = []

        def look(stamp_ns: int) -> None:
            sent.append(stamp_ns)
            peer.send("image_raw", rgb_to_image(GREY, header(stamp_ns)))
            peer.send("detections", detections(stamp_ns))
            peer.send("answer", answer(sent[0], "A red cube."))

        peer.stream(look, lambda: len(peer.received["annotated"]) >= 4, "pictures")
        stamps = [time_to_ns(message.header.stamp) for message in peer.received["annotated"]]
        assert stamps == sorted(stamps)


def test_the_qos_of_its_topics_is_overridden() -> None:
    overrides = {
        "qos_overrides./own/image_raw.subscription.reliability": "best_effort",
        "qos_overrides./own/annotated.publisher.reliability": "best_effort",
        "qos_overrides./own/detections.subscription.depth": 3,
    }
    with accompanied("own", **overrides) as peer:
        peer.companion.open_all()
        image_raw = the_one(lambda: peer.node.get_subscriptions_info_by_topic("/own/image_raw"))
        annotated = the_one(lambda: peer.node.get_publishers_info_by_topic("/own/annotated"))
        detections_in = the_one(lambda: peer.node.get_subscriptions_info_by_topic("/own/detections"))
        best_effort = [end.qos_profile.reliability is BEST_EFFORT for end in (image_raw, annotated, detections_in)]
        assert best_effort == [True, True, False]
        given = peer.companion.get_parameters_by_prefix("qos_overrides")
        assert len(given) == len(overrides), "nothing is declared that was not given"


@pytest.mark.parametrize(
    ("parameters", "word"),
    [
        ({"jpeg_quallity": 3}, "did you mean 'jpeg_quality'"),
        ({"image_topic": "a b"}, "image_topic"),
        ({"qos_overrides./refused/annotate.publisher.depth": 3}, "/refused/annotated.publisher"),
        ({"qos_overrides./refused/annotated.publisher.depth": 0}, "publisher.depth' is 0; expected from 1 up to 1000"),
        ({"qos_overrides./refused/annotated.publisher.depth": -1}, "publisher.depth' is -1"),
        ({"qos_overrides./refused/annotated.publisher.depth": 2**40}, f"publisher.depth' is {2**40}"),
        ({"qos_overrides./refused/annotated.publisher.depth": "ten"}, "'ten' of type str; expected int"),
        ({"qos_overrides./refused/annotated.publisher.depth": True}, "True of type bool; expected int"),
        ({"qos_overrides./refused/annotated.publisher.history": 3}, "publisher.history' is 3 of type int"),
        ({"qos_overrides./refused/image_raw.subscription.depth": 0}, "image_raw.subscription.depth' is 0"),
        ({"qos_overrides./refused/annotated.publisher.durability": "volatile"}, "durability"),
    ],
)
def test_bad_parameters_are_refused_by_name(parameters: dict[str, object], word: str) -> None:
    with pytest.raises(ParameterError, match=word), accompanied("refused", **parameters):
        pass


def test_the_yaml_lists_every_parameter_with_its_default() -> None:
    listed = yaml.safe_load(share_path("config/companion.yaml").read_text())["/**"]["ros__parameters"]
    assert listed == {parameter.name: parameter.default for parameter in PARAMETERS}
