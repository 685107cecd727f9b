"""Reads from source, without running it, which modules a file imports: for rules about imports, and to choose tests."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "exaone_ros"


@dataclass(frozen=True)
class Import:
    """One imported name.

    Attributes:
        module: dotted and absolute; `from a import b` gives `a.b` where that is a module of ours, else `a`.
        line: where it stands.
        at_import: true where it runs when the file is imported; false inside a function or `if TYPE_CHECKING`.
    """

    module: str
    line: int
    at_import: bool


@cache
def imports_of(path: Path) -> tuple[Import, ...]:
    """Every import of one file, in any function too."""
    found: list[Import] = []
    _collect(ast.parse(path.read_text(encoding="utf-8"), str(path)), _package_of(path), True, found)
    return tuple(found)


@cache
def needed_modules(path: Path) -> frozenset[str]:
    """Top-level names of all that importing one file imports, through our own modules, e.g. {'numpy', 'torch'}."""
    needed: set[str] = set()
    waiting, seen = [path], {path}
    while waiting:
        for found in imports_of(waiting.pop()):
            if not found.at_import:
                continue
            ours = _files_of(found.module)
            needed.update(() if ours else (found.module.split(".")[0],))
            waiting.extend(file for file in ours if file not in seen)
            seen.update(ours)
    return frozenset(needed)


def source_files(folder: Path = ROOT / PACKAGE) -> list[Path]:
    """Python files below a folder, sorted."""
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def _collect(node: ast.AST, package: str, at_import: bool, found: list[Import]) -> None:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            found.extend(Import(alias.name, child.lineno, at_import) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            base = _absolute(child, package)
            names = [f"{base}.{alias.name}" for alias in child.names]
            modules = dict.fromkeys(name if _files_of(name) else base for name in names)
            found.extend(Import(module, child.lineno, at_import) for module in modules)
        else:
            runs = not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) and not _type_checking(
                child
            )
            _collect(child, package, at_import and runs, found)


def _type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if node.level == 0:
        return node.module or ""
    parts = package.split(".")
    parts = parts[: len(parts) - (node.level - 1)]
    return ".".join([*parts, *([node.module] if node.module else [])])


def _package_of(path: Path) -> str:
    for root in (ROOT, ROOT / "test"):
        if path.is_relative_to(root / PACKAGE) or root != ROOT:
            return ".".join(path.parent.relative_to(root).parts) if path.is_relative_to(root) else ""
    return ""


@cache
def _files_of(module: str) -> tuple[Path, ...]:
    """The files that importing a module of ours runs: itself and the packages around it; () for foreign modules."""
    parts = module.split(".")
    for root in (ROOT, ROOT / "test"):
        target = root.joinpath(*parts)
        here = [path for path in (target.with_suffix(".py"), target / "__init__.py") if path.is_file()]
        if here and (parts[0] == PACKAGE or root != ROOT):
            around: Iterable[Path] = (root.joinpath(*parts[:depth], "__init__.py") for depth in range(1, len(parts)))
            return (*here, *(path for path in around if path.is_file()))
    return ()
