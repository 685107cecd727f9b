"""A second set-up does nothing, a changed input is noticed, an interrupted step is done again."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

from provision.stamp import Stamps, exclusive, fingerprint


def test_a_fingerprint_changes_with_content_names_and_facts_only(tmp_path: Path) -> None:
    first, second = tmp_path / "a" / "x.msg", tmp_path / "b" / "x.msg"
    for path in (first, second):
        path.parent.mkdir()
        path.write_text("int32 x\n")
    base = fingerprint([first], "jazzy")
    assert fingerprint([second], "jazzy") == base, "the folder does not matter"
    assert fingerprint([first], "kilted") != base
    second.write_text("int32 y\n")
    assert fingerprint([second], "jazzy") != base
    assert fingerprint([first.rename(tmp_path / "y.msg")], "jazzy") != base


def test_a_step_is_done_for_its_own_inputs_only(tmp_path: Path) -> None:
    stamps = Stamps(tmp_path / "new")
    assert not stamps.is_done("packages", "1") and not stamps.knows("packages")
    stamps.done("packages", "1")
    stamps.done("interfaces", "2")
    again = Stamps(tmp_path / "new")
    assert again.is_done("packages", "1") and again.is_done("interfaces", "2")
    assert not again.is_done("packages", "2") and again.knows("packages")
    again.forget("packages")
    assert not stamps.knows("packages") and stamps.is_done("interfaces", "2")


def test_a_damaged_record_means_that_nothing_was_done(tmp_path: Path) -> None:
    stamps = Stamps(tmp_path)
    stamps.done("packages", "1")
    (tmp_path / ".provisioned.json").write_text('{"packages": "1"')
    assert not stamps.is_done("packages", "1")
    (tmp_path / ".provisioned.json").write_text("[]")
    assert not stamps.knows("packages")


def hold(directory: Path, order, held, go) -> None:
    with exclusive(directory):
        held.set()
        assert go.wait(60)
        order.put("first")


def follow(directory: Path, order) -> None:
    with exclusive(directory):
        order.put("second")


def test_two_set_ups_of_one_folder_wait_for_each_other(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    # A SimpleQueue is written by `put` itself; a Queue's own thread may come late and turn the order around.
    order, held, go = context.SimpleQueue(), context.Event(), context.Event()
    first = context.Process(target=hold, args=(tmp_path / "venv", order, held, go))
    second = context.Process(target=follow, args=(tmp_path / "venv", order))
    first.start()
    assert held.wait(60)
    second.start()
    go.set()
    first.join(60)
    second.join(60)
    assert (first.exitcode, second.exitcode) == (0, 0)
    assert [order.get(), order.get()] == ["first", "second"]
