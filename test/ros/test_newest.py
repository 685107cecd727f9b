"""The newest item wins, and nobody waits for room."""

from __future__ import annotations

import threading

from exaone_ros.ros.newest import NewestSlot


def test_an_older_item_gives_way() -> None:
    slot: NewestSlot[int] = NewestSlot()
    assert slot.put(1) is False
    assert slot.put(2) is True
    assert slot.take() == 2
    assert slot.take(timeout_s=0.0) is None
    assert slot.put(3) is False


def test_a_waiting_taker_gets_the_item_or_the_end() -> None:
    slot: NewestSlot[int] = NewestSlot()
    got: list[int | None] = []
    first = threading.Event()

    def take_two() -> None:
        got.append(slot.take(10))
        first.set()
        got.append(slot.take(10))

    thread = threading.Thread(target=take_two)
    thread.start()
    slot.put(7)
    assert first.wait(10)
    slot.close()
    thread.join(10)
    assert not thread.is_alive() and got == [7, None]


def test_a_closed_slot_gives_nothing_and_keeps_nothing() -> None:
    slot: NewestSlot[int] = NewestSlot()
    slot.put(1)
    slot.close()
    assert slot.closed and slot.take() is None
    slot.put(2)
    assert slot.take() is None
