"""The pages of the documentation, their fenced blocks, and the commands in these."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
MODEL_CARDS = sorted((ROOT / "models").glob("*/README.md"))
BLOCK = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
SHELL = ("", "bash", "sh", "console")
HEREDOC = re.compile(r"<<'?(\w+)'?")
Found = tuple[str, str]
"""(page, text)."""


def blocks(*languages: str) -> Iterator[Found]:
    """The fenced blocks of these languages."""
    yield from _blocks(PAGES, languages)


def _blocks(pages: list[Path], languages: tuple[str, ...]) -> Iterator[Found]:
    for page in pages:
        for language, text in BLOCK.findall(page.read_text(encoding="utf-8")):
            if language in languages:
                yield str(page.relative_to(ROOT)), text


def whole_commands() -> Iterator[Found]:
    """Every command of the shell blocks, model cards included, as one would type it.

    Continued lines are joined, comments and needless blanks left out; a here-document is one command with its text.
    """
    for page, text in _blocks([*PAGES, *MODEL_CARDS], SHELL):
        lines = iter(text.replace("\\\n", " ").splitlines())
        for line in lines:
            command = " ".join(re.split(r"(?:^|\s+)#(?:\s|$)", line.strip())[0].split()).removeprefix("$ ")
            if mark := HEREDOC.search(command):
                for more in lines:
                    command += f"\n{more}"
                    if more == mark[1]:
                        break
            if command:
                yield page, command
