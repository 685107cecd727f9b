"""Heads of other packages, found by their entry points."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from exaone_ros.action.heads.plugin import GROUP, plugin_head
from exaone_ros.action.spec import ActionSpec
from exaone_ros.errors import ActionError

MODULE = "exaone_ros_test_policy"
CODE = """
from exaone_ros.action.heads.scripted import HoldHead
from exaone_ros.errors import ActionError

class Policy(HoldHead):
    name = "my_policy"

def fail(spec):
    raise RuntimeError("no server at port 8000")

def refuse(spec):
    raise ActionError("train it anew")

def nothing(spec):
    return None

def nameless(spec):
    head = Policy(spec)
    head.name = 3
    return head
"""
SPEC = ActionSpec.make_example()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An installed package that declares heads."""
    (tmp_path / f"{MODULE}.py").write_text(CODE)
    names = ("Policy", "fail", "refuse", "nothing", "nameless", "missing")
    information = tmp_path / "test_policy-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: test-policy\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[{GROUP}]\n" + "".join(f"{n} = {MODULE}:{n}\n" for n in names))
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield tmp_path
    sys.modules.pop(MODULE, None)


def test_a_declared_head_is_made_for_the_robot(package: Path) -> None:
    head = plugin_head("Policy", SPEC)
    assert (head.name, head.spec) == ("my_policy", SPEC)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("policy", rf"no installed package declares a head 'policy'; expected one .* 'Policy' \({MODULE}:Policy\)"),
        ("fail", rf"head 'fail' \({MODULE}:fail\) cannot be made: RuntimeError: no server at port 8000"),
        ("missing", "cannot be made: AttributeError"),
        ("refuse", "^train it anew$"),
        ("nothing", "is a NoneType without 'name'"),
        ("nameless", "has name 3 and spec ActionSpec"),
    ],
)
def test_what_is_no_head_is_named(package: Path, name: str, words: str) -> None:
    with pytest.raises(ActionError, match=words):
        plugin_head(name, SPEC)


def test_a_name_that_two_packages_declare_is_refused(package: Path) -> None:
    other = package / "other_policy-1.0.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: other-policy\nVersion: 1.0\n")
    (other / "entry_points.txt").write_text(f"[{GROUP}]\nPolicy = {MODULE}:nothing\n")
    importlib.invalidate_caches()
    with pytest.raises(ActionError, match="2 installed packages declare a head 'Policy'"):
        plugin_head("Policy", SPEC)
