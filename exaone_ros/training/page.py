"""Measured tables in pages of the documentation, between two marks."""

from __future__ import annotations

from pathlib import Path

from exaone_ros.errors import ExaoneError


def replace_between(page: Path, begin: str, end: str, text: str) -> None:
    """Put text into a page in place of what stands between two marks.

    Raises:
        ExaoneError: the page does not have the marks.
    """
    before, found_begin, rest = page.read_text(encoding="utf-8").partition(begin)
    _, found_end, after = rest.partition(end)
    if not found_begin or not found_end:
        raise ExaoneError(f"{page} has no place for the table: it lacks the markers {begin!r} and {end!r}")
    page.write_text(f"{before}{begin}\n\n{text.strip()}\n\n{end}{after}", encoding="utf-8")
