"""Each trouble has its name, and the gravest wins."""

from __future__ import annotations

from typing import Any

from exaone_ros.ros.health import Health, State, judge, judge_camera, judge_engine, judge_idle
from exaone_ros.ros.meter import Reading

GOOD: dict[str, Any] = {
    "totals": {"frames.received": 100, "frames.fresh": 100, "frames.answered": 50},
    "recent": {"frames.received": 100, "frames.fresh": 100, "frames.answered": 50},
    "rates_hz": {"frames.answered": 5.0},
    "since_s": {"frames.received": 0.1, "frames.fresh": 0.1, "frames.answered": 0.2, "engine.done": 0.2},
}


def health(*, publishers: int = 1, active_s: float = 60.0, busy_s: float = 0.0, **changes: dict[str, Any]) -> Health:
    """Judge a node of one camera by the good reading with some entries changed."""
    reading = Reading(**{part: GOOD[part] | changes.get(part, {}) for part in GOOD})
    return whole(reading, publishers, active_s, busy_s)


def whole(reading: Reading, publishers: int, active_s: float, busy_s: float = 0.0) -> Health:
    """Judge a node of one camera, everything in one reading."""
    camera = judge_camera(reading, publishers=publishers, active_s=active_s, camera_timeout_s=2.0)
    answered, late = reading.recent.get("frames.answered", 0), reading.recent.get("dropped.late", 0)
    engine = judge_engine(
        reading, answered=answered, late=late, active_s=active_s, busy_s=busy_s, max_age_s=1.0, trouble="no memory"
    )
    return judge({"": camera}, engine)


def test_a_good_node_is_ok() -> None:
    assert health().state is State.OK and health().state.level == 0
    assert health().reason == "5.0 answered frames per second"
    first = health(recent={"frames.answered": 0})
    assert first.state is State.OK and "none has been answered" in first.reason


def test_each_trouble_is_named_with_its_numbers() -> None:
    quiet = {"frames.received": 5.0, "frames.fresh": 5.0}  # and in the window are images still that all were good
    silent = health(since_s=quiet, recent={"dropped.replaced": 32})
    assert silent.state is State.STALE_CAMERA and "no image for 5.0 s" in silent.reason
    reading = Reading(**{part: GOOD[part] | {"since_s": quiet}.get(part, {}) for part in GOOD})
    other = judge_camera(
        reading, publishers=0, active_s=60.0, camera_timeout_s=2.0, topic="/eye", other_types={"a/msg/A", "a/msg/B"}
    )
    assert other.state is State.STALE_CAMERA and "on /eye" in other.reason and "is a/msg/A and a/msg/B" in other.reason
    alone = health(publishers=0, since_s=quiet)
    assert alone.state is State.STALE_CAMERA and "nobody publishes" in alone.reason
    old = health(
        since_s={"frames.fresh": 5.0}, recent={"dropped.stale": 30, "dropped.zero_stamp": 2, "dropped.replaced": 9}
    )
    assert old.state is State.STALE_CAMERA and old.reason.endswith(": 30 stale, 2 zero_stamp")
    slow = health(recent={"dropped.late": 40})
    assert slow.state is State.ENGINE_SLOW and "40 of 90" in slow.reason
    assert health(busy_s=2.5).state is State.ENGINE_SLOW
    failed = health(since_s={"engine.failed": 0.1})
    assert failed.state is State.ENGINE_FAILED and failed.reason.endswith("no memory")
    assert health(since_s={"engine.failed": 0.5}).state is State.OK  # it has answered since
    bad = health(recent={"bad.wrong_step": 3})
    assert bad.state is State.DEGRADED and "3 wrong_step" in bad.reason
    assert "2 way" in health(recent={"failed.way": 2}).reason


def test_the_gravest_wins() -> None:
    everything = {
        "recent": {"bad.wrong_step": 3, "dropped.late": 99},
        "since_s": {"engine.failed": 0.1, "frames.fresh": 9.0},
    }
    assert health(**everything).state is State.ENGINE_FAILED
    del everything["since_s"]["engine.failed"]
    assert health(**everything).state is State.STALE_CAMERA


def test_a_young_node_waits_before_it_complains() -> None:
    nothing = Reading()
    young = whole(nothing, 1, 1.0)
    assert young.state is State.STARTING and young.state.level == 0
    older = whole(nothing, 1, 3.0)
    assert older.state is State.STALE_CAMERA and "became active" in older.reason


def test_a_publisher_with_another_qos_is_the_likely_reason() -> None:
    reading = Reading(totals={"qos.incompatible": 1})
    found = whole(reading, 1, 3.0)
    assert found.state is State.STALE_CAMERA and "best_effort" in found.reason


def test_a_node_that_is_not_active_says_why() -> None:
    assert judge_idle("unconfigured", None).state is State.UNCONFIGURED
    failed = judge_idle("unconfigured", "configure: CheckpointError: no config.json")
    assert failed.state is State.CONFIGURE_FAILED and "config.json" in failed.reason and failed.state.level == 2
    assert judge_idle("configuring", None).state is State.CONFIGURING
    assert judge_idle("inactive", None).state is State.INACTIVE
    assert judge_idle("inactive", "activate: ...").state is State.ACTIVATE_FAILED


def test_one_of_several_cameras_degrades_the_node_and_all_of_them_fail_it() -> None:
    ok, slow = Health(State.OK, "5 frames"), Health(State.ENGINE_SLOW, "late")
    stale, bad = Health(State.STALE_CAMERA, "nobody publishes"), Health(State.DEGRADED, "bad images: 2 wrong_step")
    fine = Health(State.OK, "")
    one = judge({"left": ok, "right": stale}, fine)
    assert one.state is State.DEGRADED and one.reason == "stale_camera: camera 'right': nobody publishes"
    both = judge({"left": bad, "right": stale}, fine)
    assert both.state is State.DEGRADED and "camera 'left': bad images" in both.reason and "right" in both.reason
    assert judge({"left": stale, "right": stale}, fine).state is State.STALE_CAMERA
    assert judge({"left": stale, "right": stale}, slow).state is State.STALE_CAMERA
    assert judge({"left": ok, "right": stale}, slow).state is State.ENGINE_SLOW
    waiting = Health(State.STARTING, "waiting")
    assert judge({"left": ok, "right": waiting}, fine).state is State.STARTING
    assert judge({"left": ok, "right": ok}, fine).state is State.OK
