"""Boxes that follow the images: on pictures that are shifted, scaled, covered and exchanged by known amounts."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from exaone_ros.geometry.flow import grey_of, moved_boxes
from exaone_ros.geometry.tracks import BoxTracker, SeenBox, iou

S = 1_000_000_000
FRAME = S // 30
BOX = (100.0, 80.0, 160.0, 140.0)


def texture(seed: int = 0, size: tuple[int, int] = (240, 320)) -> np.ndarray:
    """Something that corners can be found on, uint8 [H, W, 3]."""
    coarse = np.random.default_rng(seed).integers(0, 256, (size[0] // 8, size[1] // 8, 3), np.uint8)
    return cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)


def shifted(image: np.ndarray, dx: float, dy: float, scale: float = 1.0) -> np.ndarray:
    matrix = np.array([[scale, 0, dx], [0, scale, dy]], np.float32)
    return cv2.warpAffine(image, matrix, image.shape[1::-1], borderMode=cv2.BORDER_REFLECT)


def seen(box: tuple[float, float, float, float] = BOX, label: str = "mug", task: str = "objects") -> SeenBox:
    return SeenBox(task, label, box, 0.9)


@pytest.mark.parametrize(("dx", "dy", "scale"), [(0, 0, 1.0), (7.5, -4.25, 1.0), (-20, 10, 1.0), (-12, -10, 1.1)])
def test_a_box_moves_with_its_picture(dx: float, dy: float, scale: float) -> None:
    image = texture()
    (moved,) = moved_boxes(grey_of(image), grey_of(shifted(image, dx, dy, scale)), [BOX])
    expected = tuple(side * scale + (dx, dy)[i % 2] for i, side in enumerate(BOX))
    assert moved == pytest.approx(expected, abs=1.0)


def test_what_cannot_be_followed_is_none() -> None:
    image, other = grey_of(texture(1)), grey_of(texture(2))
    plain = np.full((240, 320), 128, np.uint8)
    assert moved_boxes(image, other, [BOX]) == [None]  # another scene
    assert moved_boxes(plain, plain, [BOX]) == [None]  # nothing to hold on to
    assert moved_boxes(image, image[:100], [BOX]) == [None]  # another camera
    assert moved_boxes(image, image, [(1.0, 1.0, 2.0, 2.0), (400.0, 10.0, 440.0, 40.0)]) == [None, None]
    assert moved_boxes(image, image, []) == []
    out = shifted(texture(1), -140, 0)
    assert moved_boxes(image, grey_of(out), [BOX]) == [None]  # left the image


def test_a_late_look_is_brought_forward_to_the_newest_image() -> None:
    tracker, image = BoxTracker(S), texture()
    for number in range(10):
        assert tracker.on_image(number * FRAME + 1, shifted(image, 3.0 * number, 0)) == ()
    assert tracker.looked_ns is None
    assert tracker.on_look(1, [seen()])  # the answer to the first image comes with the tenth
    (track,) = tracker.tracks()
    assert track.box == pytest.approx((BOX[0] + 27, BOX[1], BOX[2] + 27, BOX[3]), abs=1.5)
    assert (track.seen_ns, track.seen.label, track.seen.box) == (1, "mug", BOX)


def test_ids_last_over_looks_and_are_never_used_again() -> None:
    tracker, image = BoxTracker(S), texture()
    other = (200.0, 120.0, 250.0, 170.0)
    tracker.on_image(1, image)
    tracker.on_look(1, [seen(), seen(other)])
    first = {t.number: t.seen.box for t in tracker.tracks()}
    tracker.on_image(FRAME, shifted(image, 6, 0))
    moved = (206.0, 120.0, 256.0, 170.0)
    tracker.on_look(FRAME, [seen(moved), seen((20.0, 20.0, 60.0, 60.0))])  # the first one is gone, another is there
    second = {t.number: t.seen.box for t in tracker.tracks()}
    kept = next(number for number, box in first.items() if box == other)
    assert second[kept] == moved and len(second) == 2
    assert set(second) - set(first) == {3}
    tracker.on_look(FRAME, [seen(moved, label="ball")])  # the same place, another thing
    assert {t.number for t in tracker.tracks()} == {4}


def test_an_empty_look_clears_and_other_tasks_stay() -> None:
    tracker, image = BoxTracker(S), texture()
    tracker.on_image(1, image)
    tracker.on_look(1, [seen(), seen((200.0, 120.0, 250.0, 170.0), "person", "hazards")])
    tracker.on_image(FRAME, image)
    tracker.on_look(FRAME, [seen()])
    assert {t.seen.task for t in tracker.tracks()} == {"objects", "hazards"}
    tracker.on_look(FRAME, [])
    assert tracker.tracks() == ()


def test_a_second_answer_to_one_image_keeps_the_numbers_of_what_the_first_did_not_see() -> None:
    tracker, image = BoxTracker(S), texture()
    tracker.on_image(1, image)
    tracker.on_look(1, [seen()])
    (before,) = tracker.tracks()
    tracker.on_image(FRAME, image)
    tracker.on_look(FRAME, [])  # of a task with another priority
    assert tracker.tracks() == ()
    tracker.on_look(FRAME, [seen()])
    assert [track.number for track in tracker.tracks()] == [before.number]


def test_boxes_are_let_go_with_age() -> None:
    tracker, image = BoxTracker(S // 2), texture()
    tracker.on_image(1, image)
    tracker.on_look(1, [seen()])
    counts = [len(tracker.on_image(number * FRAME, image)) for number in range(1, 20)]
    assert counts[:15] == [1] * 15 and counts[16:] == [0] * 3
    assert tracker.dropped == 1


def test_looks_at_images_that_are_not_held_or_older_than_the_last_change_nothing() -> None:
    tracker, image = BoxTracker(S), texture()
    assert not tracker.on_look(5, [seen()])
    tracker.on_image(1, image)
    tracker.on_image(FRAME, image)
    assert not tracker.on_look(5, [seen()]) and tracker.tracks() == ()
    assert tracker.on_look(FRAME, [seen()]) and not tracker.on_look(1, [])
    assert len(tracker.tracks()) == 1


def test_a_clock_set_back_and_another_image_size_begin_anew() -> None:
    tracker, image = BoxTracker(S), texture()
    tracker.on_image(5 * S, image)
    tracker.on_look(5 * S, [seen()])
    assert tracker.on_image(S, image) == () and tracker.looked_ns is None
    tracker.on_look(S, [seen()])
    assert tracker.on_image(S + FRAME, texture(0, (120, 160))) == ()


def test_a_camera_that_changes_its_resolution_begins_anew_although_the_images_that_are_followed_are_alike() -> None:
    tracker = BoxTracker(S)
    tracker.on_image(1, texture(0, (480, 640)))
    tracker.on_look(1, [seen()])
    assert len(tracker.on_image(FRAME, texture(0, (480, 640))) or ()) == 1
    assert tracker.on_image(2 * FRAME, texture(0, (960, 1280))) == ()  # both are followed at 320 x 240
    assert not tracker.on_look(FRAME, [seen()])  # an answer in pixels of the image before
    assert tracker.on_look(2 * FRAME, [seen()])


def test_an_image_that_is_repeated_or_was_overtaken_changes_nothing() -> None:
    tracker, image = BoxTracker(S), texture()
    tracker.on_image(5 * S, image)
    tracker.on_look(5 * S, [seen()])
    (before,) = tracker.on_image(5 * S + FRAME, image) or ()
    for stamp_ns in (5 * S + FRAME, 5 * S + 1, 5 * S - FRAME):
        assert tracker.on_image(stamp_ns, texture(1)) is None
    assert tracker.tracks() == (before,) and tracker.looked_ns == 5 * S
    assert len(tracker.on_image(5 * S + 2 * FRAME, image) or ()) == 1


def test_large_images_are_followed_in_their_own_pixels() -> None:
    tracker, image = BoxTracker(S), texture(0, (720, 1280))
    box = (400.0, 200.0, 640.0, 440.0)
    tracker.on_image(1, image)
    tracker.on_look(1, [seen(box)])
    (track,) = tracker.on_image(FRAME, shifted(image, 24, 16))
    assert track.box == pytest.approx((424, 216, 664, 456), abs=4.0)


@pytest.mark.parametrize("edge", [float("nan"), float("inf"), 1e300])
def test_what_is_no_box_is_not_followed_and_spares_the_others(edge: float) -> None:
    tracker, image = BoxTracker(S), texture()
    tracker.on_image(1, image)
    tracker.on_image(2, image)
    bad = [seen((0.0, 0.0, 50.0, edge)), seen((-edge, edge, edge, edge))]
    assert tracker.on_look(1, [*bad, seen()])  # on an image that others have followed
    tracker.on_look(2, [*bad, seen()])  # on the newest
    (track,) = tracker.on_image(FRAME, image)
    assert track.box == pytest.approx(BOX, abs=1.0)
    assert moved_boxes(grey_of(image), grey_of(image), [(0.0, 0.0, edge, 50.0)]) == [None]


def test_overlap_of_boxes() -> None:
    assert iou((0, 0, 2, 2), (1, 0, 3, 2)) == pytest.approx(1 / 3)
    assert iou((0, 0, 1, 1), (2, 2, 3, 3)) == 0 and iou((0, 0, 0, 0), (0, 0, 0, 0)) == 0
