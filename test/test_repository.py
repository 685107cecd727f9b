"""What is committed: nothing of one machine, nothing huge, and nothing that a run makes."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MOST_BYTES = 20_000_000
# Spelt so that this file does not find itself.
OF_ONE_MACHINE = re.compile(r"(?<![\w.])/(?:work|opt/[a-z_]*dev|check|root)/(?!\.)|files\.python[h]osted|[p]ypi\.org")
OF_THE_WORK = re.compile(r"\b[I]ssue #?\d|\b[H]elper session\b", re.IGNORECASE)
MADE_BY_RUNS = (
    ".venv-jazzy/bin/python", ".venv-setup.log", ".ros_workspace/x", ".test_work/full.xml", "build/x", "install/x",
    "log/x", "demo_out/summary.json", "bench_out/x", "exaone_ros/__pycache__/x.pyc", ".pytest_cache/x", "runs/x",
    ".mypy_cache/x", ".ruff_cache/x", ".hypothesis/x", "exaone_ros.egg-info/x",
)  # fmt: skip


def git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    ).stdout


@pytest.fixture(scope="module")
def files() -> list[Path]:
    """Everything that git keeps."""
    if shutil.which("git") is None or not git("rev-parse", "--is-inside-work-tree").strip():
        pytest.skip("no git checkout here")
    return [ROOT / name for name in git("ls-files", "-z").split("\0") if name and (ROOT / name).is_file()]


def test_no_file_is_huge(files: list[Path]) -> None:
    assert [str(path) for path in files if path.stat().st_size > MOST_BYTES] == []


@pytest.mark.parametrize("pattern", [OF_ONE_MACHINE, OF_THE_WORK], ids=["of_one_machine", "of_the_work"])
def test_no_text_is_about_one_machine_or_how_the_work_was_organised(
    files: list[Path], pattern: re.Pattern[str]
) -> None:
    found = []
    for path in files:
        data = path.read_bytes()
        if b"\0" in data:
            continue
        for number, line in enumerate(data.decode(errors="replace").splitlines(), start=1):
            if pattern.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert found == []


def test_what_a_run_makes_is_ignored_and_nothing_that_is_kept_is(files: list[Path]) -> None:
    ignored = git("check-ignore", "--no-index", *MADE_BY_RUNS).split()
    assert sorted(ignored) == sorted(MADE_BY_RUNS)
    assert files and git("ls-files", "--cached", "--ignored", "--exclude-standard") == ""
