"""Commands end quietly when whoever reads their output goes away, and with a line where there is no room for it."""

from __future__ import annotations

import ast
import errno
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.imports import PACKAGE, ROOT, source_files

from exaone_ros.pipes import READER_GONE, UNWRITABLE, ends_with_its_reader

DECORATOR = ends_with_its_reader.__name__
NODE_RUNNER = "run_node"
"""Nodes print nothing of their own: what they have to say they log, and rclpy lives on where nobody reads that."""


COMPLAINTS = ("Traceback", "Exception ignored", "BrokenPipe", "Broken pipe")
"""What Python says of such an end. Libraries may have their own to say: ONNX Runtime of a GPU that it expected."""


def ended(*command: str) -> tuple[int, str]:
    """(exit status, stderr) of a Python command whose standard output nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, *command], stdout=writing, stderr=subprocess.PIPE, text=True, timeout=300, check=False
        )
    finally:
        os.close(writing)
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("-m", "exaone_ros.cli.main", "doctor"),
        ("-c", "from exaone_ros.cli.main import doctor_main; raise SystemExit(doctor_main())"),
    ],
    ids=["module", "entry_point"],
)
def test_a_command_that_nobody_reads_ends_without_a_word(words: tuple[str, ...]) -> None:
    status, said = ended(*words)
    assert status == READER_GONE and not any(complaint in said for complaint in COMPLAINTS), said


def test_help_that_nobody_reads_ends_without_a_word() -> None:
    status, said = ended("-m", "exaone_ros.cli.main", "doctor", "--help")
    assert said == "" and status in (0, READER_GONE), "argparse keeps to itself what it could not write at once"


@pytest.mark.parametrize(
    ("words", "unbuffered"), [(("doctor",), ""), (("doctor",), "1"), (("doctor", "--help"), "")]
)  # not help unbuffered: argparse keeps to itself what it could not write at once
def test_output_that_cannot_be_written_is_one_line(words: tuple[str, ...], unbuffered: str) -> None:
    command = [sys.executable, "-m", "exaone_ros.cli.main", *words]
    variables = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with Path("/dev/full").open("w") as full:  # every write to it fails as on a full disk
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, env=variables, timeout=300, check=False
        )
    ours = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == UNWRITABLE and not any(complaint in done.stderr for complaint in COMPLAINTS), done.stderr
    assert len(ours) == 1 and ours[0].endswith("to standard output: No space left on device")


def test_neither_output_nor_complaint_can_be_written() -> None:
    program = (
        "import sys\n"
        "from exaone_ros.pipes import ends_with_its_reader\n"
        "sys.exit(ends_with_its_reader(lambda: print('x'))())\n"
    )
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-c", program], stdout=full, stderr=full, timeout=300, check=False)
    assert done.returncode == UNWRITABLE


def test_what_a_command_holds_is_given_back_on_the_way(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from exaone_ros.pipes import ends_with_its_reader\n"
        "@ends_with_its_reader\n"
        "def main():\n"
        "    try:\n"
        "        print('x' * 1_000_000)\n"
        "    finally:\n"
        f"        open({str(tmp_path / 'closed')!r}, 'w').close()\n"
        "sys.exit(main())\n"
    )
    assert ended("-c", program) == (READER_GONE, "")
    assert (tmp_path / "closed").exists()


def test_other_broken_pipes_are_errors() -> None:
    reading, writing = os.pipe()
    os.close(reading)

    @ends_with_its_reader
    def main() -> int:
        return os.write(writing, b"to a server, say")

    with pytest.raises(BrokenPipeError):
        main()
    os.close(writing)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full", "engine.plan"), OSError(errno.ENOSPC, "full")])
def test_other_full_disks_are_errors(error: OSError) -> None:
    @ends_with_its_reader
    def main() -> None:
        raise error

    with pytest.raises(OSError) as caught:
        main()
    assert caught.value is error


def test_an_error_behind_a_closed_output_is_the_same_error(monkeypatch: pytest.MonkeyPatch) -> None:
    error = TimeoutError(errno.ETIMEDOUT, "a server said nothing")

    @ends_with_its_reader
    def main() -> None:
        sys.stdout.close()
        raise error

    monkeypatch.setattr(sys, "stdout", io.StringIO())
    with pytest.raises(TimeoutError) as caught:
        main()
    assert caught.value is error


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_command_without_an_output_ends_as_it_would(monkeypatch: pytest.MonkeyPatch, stream: str) -> None:
    """As `>&-` in a shell leaves it."""
    monkeypatch.setattr(sys, stream, None)
    assert ends_with_its_reader(lambda number: number)(3) == 3


def test_a_command_that_is_read_ends_as_it_would() -> None:
    assert ends_with_its_reader(lambda number: number)(3) == 3
    with pytest.raises(SystemExit, match="2"):
        ends_with_its_reader(lambda: sys.exit(2))()


def test_every_command_ends_so() -> None:
    """Whatever can be run with `python -m` or is an executable of the package."""
    entries = dict.fromkeys(re.findall(r"= {PACKAGE}\.([\w.]+):(\w+)", (ROOT / "setup.py").read_text("utf-8")))
    assert len(entries) > 10
    for file in source_files():
        source = file.read_text(encoding="utf-8")
        if 'if __name__ == "__main__":' in source:
            module = ".".join(file.relative_to(ROOT / PACKAGE).with_suffix("").parts)
            (called,) = re.findall(r'if __name__ == "__main__":\n.*?(\w+)\(\)+\n', source)
            entries[(module, called)] = None
    wrong = []
    for module, name in entries:
        tree = ast.parse((ROOT / PACKAGE / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))
        (function,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name)
        body = ast.unparse(function)
        through = f"@{DECORATOR}" in body or f"{NODE_RUNNER}(" in body or "return main(" in body
        wrong += [] if through else [f"{module}.{name}"]
    assert wrong == [], f"decorate them with {DECORATOR}"
