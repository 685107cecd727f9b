"""Every name of the package that the documentation, a model card or a docstring mentions is where it is said to be."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from typing import Any

import mujoco  # noqa: F401  (modules that pages name import these; without them this file is not collected)
import pytest
import torch  # noqa: F401

pytest.importorskip("rclpy")

from docs_pages import BLOCK, MODEL_CARDS, PAGES, ROOT
from support.imports import source_files

DOTTED = re.compile(r"(?<![\w./-])exaone_ros(?:\.[A-Za-z_]\w*)+")
FILE = re.compile(r"(?<![\w./-])([a-z_][\w/]*\.py)\b")
REFERENCE = re.compile(r"\b[Ss]ee `(_\w+)`")
PLACEHOLDERS = {"exaone_ros.nodes.NAME"}
"""What a page writes for a name that the reader is to put in."""


def texts() -> Iterator[tuple[str, str]]:
    """(place, text) of each page, model card and docstring."""
    for page in [*PAGES, *MODEL_CARDS]:
        yield str(page.relative_to(ROOT)), page.read_text(encoding="utf-8")
    for file in source_files():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield f"{file.relative_to(ROOT)}:{node.lineno}", node.value


def found(dotted: str) -> Any:
    """What a dotted name stands for.

    Raises:
        LookupError: there is no such module, or nothing of that name in it.
    """
    module, _, rest = dotted.partition(".")
    value: Any = importlib.import_module(module)
    while rest:
        name, _, rest = rest.partition(".")
        module = f"{module}.{name}"
        if hasattr(value, name):
            value = getattr(value, name)
            continue
        try:
            value = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name != module:  # the module is there; what it needs is not
                raise
            raise LookupError(dotted) from error
    return value


def imports(text: str) -> Iterator[tuple[str, str]]:
    """(module, name) of each `from exaone_ros... import name` in the Python blocks of a page."""
    for language, block in BLOCK.findall(text):
        for node in ast.walk(ast.parse(block)) if language == "python" else ():
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "exaone_ros":
                yield from ((node.module or "", alias.name) for alias in node.names)


def is_at_home(module: str, name: str) -> bool:
    """Whether a module defines a name, or its package hands it out; not whether it happens to import it itself."""
    value = found(module)
    if name in getattr(value, "__all__", ()):
        return True
    home = getattr(getattr(value, name), "__module__", module)
    return bool(home == module or home.startswith(f"{module}."))


def test_dotted_names_stand_for_something() -> None:
    wrong, names = [], 0
    for place, text in texts():
        for dotted in sorted(set(DOTTED.findall(text)) - PLACEHOLDERS):
            names += 1
            try:
                found(dotted)
            except LookupError:
                wrong.append(f"{place}: there is no {dotted}")
    assert not wrong, "\n".join(wrong)
    assert names > 50


def test_pages_import_names_from_where_they_are_at_home() -> None:
    asked = [
        (f"{page.relative_to(ROOT)}: from {module} import {name}", module, name)
        for page in [*PAGES, *MODEL_CARDS]
        for module, name in imports(page.read_text(encoding="utf-8"))
    ]
    assert len(asked) > 10
    assert [said for said, module, name in asked if not is_at_home(module, name)] == []


def test_files_that_are_named_by_the_end_of_their_path_exist() -> None:
    files = [str(path.relative_to(ROOT)) for path in ROOT.glob("*.py")]
    files += [
        str(path.relative_to(ROOT))
        for folder in ("exaone_ros", "scripts", "test", "launch", "examples", "exaone_interfaces")
        for path in (ROOT / folder).rglob("*.py")
    ]
    wrong = [
        f"{page.relative_to(ROOT)}: {name}"
        for page in [*PAGES, *MODEL_CARDS]
        for name in sorted(set(FILE.findall(page.read_text(encoding="utf-8"))))
        if not any(file == name or file.endswith(f"/{name}") for file in files)
    ]
    assert wrong == []


def test_functions_of_its_own_that_a_file_refers_to_are_there() -> None:
    wrong = []
    for file in source_files():
        source = file.read_text(encoding="utf-8")
        wrong += [f"{file.relative_to(ROOT)}: {n}" for n in REFERENCE.findall(source) if f"def {n}(" not in source]
    assert wrong == []
