"""The companion node over real DDS: the annotated image, drawn only while somebody looks."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rclpy")

import yaml
from companion_peer import FRAME_ID, accompanied, counts, decision, detections, header
from sensor_msgs.msg import CompressedImage, Image

from exaone_ros.ros.annotated import Newest, jpeg_message, lines_of
from exaone_ros.ros.companion_settings import PARAMETERS
from exaone_ros.ros.image import compressed_image_to_rgb, image_to_rgb, rgb_to_image
from exaone_ros.ros.messages import time_to_ns
from exaone_ros.ros.parameters import ParameterError
from exaone_ros.share import share_path

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
        assert not peer.companion.images_held


def test_what_was_read_from_an_earlier_image_says_so() -> None:
    s = 1_000_000_000
    newest = Newest(counts=counts(10 * s, 3), decisions={"way": decision(8 * s, "clear")})
    assert lines_of(newest, 10 * s) == ["count  all: 3", "clear (0.25) [2.0 s before]"]
    assert lines_of(Newest(), 10 * s) == ["", ""]


@pytest.mark.parametrize(
    ("parameters", "word"),
    [({"jpeg_quallity": 3}, "did you mean 'jpeg_quality'"), ({"image_topic": "a b"}, "image_topic")],
)
def test_bad_parameters_are_refused_by_name(parameters: dict[str, object], word: str) -> None:
    with pytest.raises(ParameterError, match=word), accompanied("refused", **parameters):
        pass


def test_the_yaml_lists_every_parameter_with_its_default() -> None:
    listed = yaml.safe_load(share_path("config/companion.yaml").read_text())["/**"]["ros__parameters"]
    assert listed == {parameter.name: parameter.default for parameter in PARAMETERS}
