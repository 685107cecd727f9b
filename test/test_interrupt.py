"""Commands say one line of a Ctrl-C, from their first import on; other programs keep their own word."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.imports import ROOT

MODULES = ["exaone_ros.cli.main", "exaone_ros.training", "exaone_ros.bench", "exaone_ros.sim.generate"]


@pytest.fixture
def interrupting(tmp_path: Path) -> dict[str, str]:
    """Variables of a process to whom Ctrl-C happens as soon as it imports numpy."""
    folder = tmp_path / "first_on_the_path"
    folder.mkdir()
    (folder / "numpy.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    return {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}


def ended(variables: dict[str, str], *command: str) -> tuple[int, str]:
    """(exit status, stderr) of a Python command; Ctrl-C is heeded there, whatever this process does about it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a child inherits it where it is ignored
    try:
        done = subprocess.run(
            [sys.executable, *command], capture_output=True, text=True, env=variables, timeout=300, check=False
        )
    finally:
        signal.signal(signal.SIGINT, before)
    return done.returncode, done.stderr


@pytest.mark.parametrize("module", MODULES)
def test_an_interrupted_import_of_a_module_is_one_line(interrupting: dict[str, str], module: str) -> None:
    assert ended(interrupting, "-m", module, "anything") == (-signal.SIGINT, f"{module}: interrupted\n")


@pytest.mark.parametrize("script", ["bin/exaone", "lib/exaone_ros/doctor"])
def test_an_interrupted_import_of_an_executable_is_one_line(
    interrupting: dict[str, str], tmp_path: Path, script: str
) -> None:
    file = tmp_path / script
    file.parent.mkdir(parents=True)
    file.write_text("import sys\nfrom exaone_ros.cli.main import main\nsys.exit(main())\n")
    assert ended(interrupting, str(file), "doctor") == (-signal.SIGINT, f"{file.name}: interrupted\n")


def test_what_else_goes_wrong_is_told_as_ever(tmp_path: Path, interrupting: dict[str, str]) -> None:
    (tmp_path / "first_on_the_path" / "numpy.py").write_text("raise ValueError('a defect')\n")
    status, said = ended(interrupting, "-m", "exaone_ros.cli.main")
    assert status == 1 and said.startswith("Traceback") and "a defect" in said


@pytest.mark.parametrize("how", ["text", "file"])
def test_a_program_that_imports_the_package_says_what_it_likes(
    interrupting: dict[str, str], tmp_path: Path, how: str
) -> None:
    program, file = "import exaone_ros\nimport numpy\n", tmp_path / "mine.py"
    file.write_text(program)
    status, said = ended(interrupting, *(("-c", program) if how == "text" else (str(file),)))
    assert status == -signal.SIGINT and said.startswith("Traceback") and said.endswith("KeyboardInterrupt\n")
