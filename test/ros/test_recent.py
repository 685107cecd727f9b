"""Messages by stamp, bounded."""

from __future__ import annotations

from exaone_ros.ros.recent import RecentMessages

S = 1_000_000_000


def test_messages_are_found_by_stamp_and_let_go_with_time() -> None:
    held: RecentMessages[str] = RecentMessages(keep_ns=2 * S)
    assert held.newest_ns is None and held.nearest(0, S) is None
    for second in range(1, 6):
        assert held.put(second * S, f"m{second}")
    assert [stamp // S for stamp, _ in held.after(0)] == [3, 4, 5]
    assert held.at(4 * S) == "m4" and held.at(4 * S + 1) is None and held.at(S) is None
    assert held.nearest(4 * S + 1000, 2000) == (4 * S, "m4")
    assert held.nearest(4 * S + S // 2, S // 10) is None
    assert held.newest_ns == 5 * S


def test_bytes_and_number_are_bounded_and_the_newest_stays() -> None:
    held: RecentMessages[int] = RecentMessages(keep_ns=100 * S, max_bytes=250, max_count=3)
    for second in range(1, 5):
        held.put(second * S, second, 100)
    assert [m for _, m in held.after(0)] == [3, 4]
    held.put(5 * S, 5, 1000)
    assert [m for _, m in held.after(0)] == [5]
    for second in range(6, 12):
        held.put(second * S, second)
    assert len(held) == 3


def test_repeated_and_late_stamps_are_not_taken_but_a_clock_set_back_is() -> None:
    held: RecentMessages[str] = RecentMessages(keep_ns=2 * S)
    held.put(100 * S, "old")
    assert not held.put(100 * S, "again") and not held.put(100 * S - S // 5, "late")
    assert held.put(S, "new run") and held.after(0) == [(S, "new run")]


def test_a_run_that_was_shorter_than_messages_are_kept_leaves_nothing_to_the_next() -> None:
    held: RecentMessages[str] = RecentMessages(keep_ns=10 * S)
    for second in range(1, 5):
        assert held.put(second * S, "first run")
    assert held.put(S, "second run") and held.at(2 * S) is None and held.nearest(3 * S, S) is None
