"""What counts as clear, relations with a margin, and mirroring."""

from __future__ import annotations

import numpy as np

from exaone_ros.sim.frame import Box, LabelledFrame, SeenObject
from exaone_ros.training.truth import Truth, mirrored, scaled_box


def thing(
    box: Box, shape: str = "cube", colour: str = "red", distance_m: float = 1.0, fraction: float = 1.0
) -> SeenObject:
    pixels = int((box[2] - box[0]) * (box[3] - box[1]))
    return SeenObject(shape, colour, box, distance_m, pixels, fraction)


def frame_of(*things: SeenObject, person: Box | None = None, obstacle: Box | None = None) -> LabelledFrame:
    """A frame of 200 x 100 px."""
    instance = np.full((100, 200), -1, np.int16)
    for index, (x1, y1, x2, y2) in enumerate(o.box for o in things):
        instance[int(y1) : int(y2), int(x1) : int(x2)] = index
    image = np.repeat((instance[..., None] + 1).astype(np.uint8), 3, axis=2)
    return LabelledFrame(image, things, person, obstacle, instance)


def test_boxes_are_scaled_by_width_and_height() -> None:
    assert scaled_box((20, 25, 100, 100), 200, 100) == (100, 250, 500, 1000)


def test_slivers_are_doubtful_and_their_kind_is_not_asked_about() -> None:
    truth = Truth.of(frame_of(thing((10, 10, 40, 40)), thing((60, 10, 90, 40), "ball", fraction=0.2)))
    assert [o.shape for o in truth.clear] == ["cube"]
    assert truth.matching("ball", None) is None
    assert truth.matching(None, "red") is None
    assert truth.matching("cube", "red") == truth.clear
    assert truth.matching("mug", None) == ()


def test_relations_need_a_margin() -> None:
    left, right = thing((10, 10, 40, 40), distance_m=1.0), thing((100, 10, 160, 70), distance_m=1.5)
    truth = Truth.of(frame_of(left, right))
    found = {
        relation: truth.related(relation, truth.clear) for relation in ("leftmost", "rightmost", "nearest", "largest")
    }
    assert found == {"leftmost": left, "rightmost": right, "nearest": left, "largest": right}
    close = Truth.of(frame_of(left, thing((12, 50, 43, 81), distance_m=1.02)))
    assert [close.related(r, close.clear) for r in ("leftmost", "nearest", "largest")] == [None, None, None]


def test_beside_is_left_or_right_by_centres() -> None:
    things = [thing((x, 10, x + 20, 30), colour=c) for x, c in ((10, "red"), (80, "green"), (150, "blue"))]
    truth = Truth.of(frame_of(*things))
    assert truth.beside(things[1], "left") == (things[0],)
    assert truth.beside(things[1], "right") == (things[2],)
    assert truth.beside(things[0], "left") == ()
    in_line = Truth.of(frame_of(things[0], thing((12, 60, 32, 80))))
    assert in_line.beside(things[0], "left") is None


def test_a_mirror_swaps_left_and_right_everywhere() -> None:
    frame = frame_of(
        thing((10, 10, 40, 40)), thing((100, 20, 160, 80), "mug"), person=(0, 0, 50, 100), obstacle=(150, 50, 200, 100)
    )
    twin = mirrored(frame)
    assert [(o.shape, o.box) for o in twin.objects] == [("mug", (40, 20, 100, 80)), ("cube", (160, 10, 190, 40))]
    assert twin.person == (150, 0, 200, 100)
    assert twin.obstacle == (0, 50, 50, 100)
    assert twin.instance[30, 50] == 0
    assert twin.instance[20, 170] == 1
    assert twin.instance[0, 0] == -1
    assert np.array_equal(twin.image, frame.image[:, ::-1])
    again = mirrored(twin)
    assert again.objects == frame.objects
    assert np.array_equal(again.instance, frame.instance)
