"""The tally's figures mean what they claim: slivers count neither way, wrong labels are misses."""

import pytest

from exaone_ros.view.tally import Tally, TrueObject

RED = TrueObject("red cube", (10.0, 10.0, 60.0, 60.0))
MUG = TrueObject("blue mug", (200.0, 100.0, 260.0, 180.0))
SLIVER = TrueObject("green ball", (300.0, 0.0, 340.0, 30.0), visible_fraction=0.1)
PERSON = TrueObject("person", (400.0, 0.0, 500.0, 200.0))


def test_a_perfect_list_scores_one() -> None:
    tally = Tally()
    tally.detections([("red cube", RED.box), ("blue mug", MUG.box)], [RED, MUG, PERSON])
    assert (tally.summary()["mean_iou"], tally.summary()["f1_50"]) == (1.0, 1.0)


def test_a_missed_object_counts_as_zero_overlap() -> None:
    tally = Tally()
    tally.detections([("red cube", RED.box)], [RED, MUG])
    assert tally.summary()["mean_iou"] == 0.5
    assert tally.summary()["f1_50"] == pytest.approx(2 / 3, abs=1e-4)


def test_the_right_box_with_the_wrong_label_is_a_miss_and_a_false_alarm() -> None:
    tally = Tally()
    tally.detections([("red mug", RED.box)], [RED])
    assert (tally.summary()["mean_iou"], tally.summary()["f1_50"]) == (0.0, 0.0)


@pytest.mark.parametrize("listed", [True, False])
def test_a_sliver_counts_neither_way(listed: bool) -> None:
    tally = Tally()
    found = [("red cube", RED.box)] + [("green ball", SLIVER.box)] * listed
    tally.detections(found, [RED, SLIVER])
    assert (tally.summary()["mean_iou"], tally.summary()["f1_50"]) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("label", "number", "right"),
    [("", 2, True), ("", 3, False), ("mugs", 1, True), ("red objects", 1, True), ("black mug", 0, True)],
)
def test_counts_are_compared_by_kind(label: str, number: int, right: bool) -> None:
    tally = Tally()
    tally.count(label, number, [RED, MUG, PERSON])
    assert tally.counts == [right]


def test_debatable_and_unknown_counts_are_not_scored() -> None:
    tally = Tally()
    tally.count("balls", 0, [RED, SLIVER])
    tally.count("unicorns", 0, [RED])
    assert tally.counts == []
    assert tally.summary()["count_accuracy"] is None


def test_the_decision_prefers_the_person() -> None:
    tally = Tally()
    blocked = TrueObject("obstacle", (0.0, 0.0, 100.0, 100.0))
    for choice, truth in (("person", [PERSON, blocked]), ("blocked", [blocked, RED]), ("clear", [RED])):
        tally.decision(choice, truth)
    assert tally.summary()["decision_accuracy"] == 1.0


def test_nothing_scored_is_none_not_zero() -> None:
    summary = Tally().summary()
    assert [summary[k] for k in ("mean_iou", "f1_50", "count_accuracy", "decision_accuracy")] == [None] * 4
