"""Measured tables in pages of the documentation, between two marks."""

from __future__ import annotations

from pathlib import Path

from exaone_ros.errors import ExaoneError


def place_of(page: Path, begin: str, end: str) -> tuple[str, str]:
    """What stands in a page before and behind the place between two marks.

    Raises:
        ExaoneError: there is no such page, or it does not have the marks.
    """
    if not page.is_file():
        raise ExaoneError(f"{page} does not exist; expected a page with the markers {begin!r} and {end!r}")
    before, found_begin, rest = page.read_text(encoding="utf-8").partition(begin)
    _, found_end, after = rest.partition(end)
    if not found_begin or not found_end:
        raise ExaoneError(
            f"{page} has no place for the table: it lacks the markers {begin!r} and {end!r}; write them "
            "where it belongs"
        )
    return before, after


def replace_between(page: Path, begin: str, end: str, text: str) -> None:
    """Put text into a page in place of what stands between two marks.

    Raises:
        ExaoneError: see `place_of`.
    """
    before, after = place_of(page, begin, end)
    page.write_text(f"{before}{begin}\n\n{text.strip()}\n\n{end}{after}", encoding="utf-8")
