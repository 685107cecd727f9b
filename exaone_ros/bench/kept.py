"""What stays on the page of the benchmarks when it is written anew."""

from __future__ import annotations

from pathlib import Path


def gpu_sections(page: Path) -> str:
    """What `make gpu-check` put at the end of a page on machines that have a GPU: the benchmarks know nothing of it."""
    _, mark, rest = page.read_text(encoding="utf-8").partition("\n<!-- gpu-check: ") if page.is_file() else ("", "", "")
    return mark + rest
