"""What a command says when Ctrl-C ends it, from its first import on. Knows nothing of the other rooms.

Most of a short command's time goes into imports, before any `main` could catch anything. So the package's `__init__`,
which Python runs first, sets this up, and only where the process is one of the package's commands: what a program that
merely imports the package says of Ctrl-C is its own affair.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import TracebackType

PACKAGE = __name__.partition(".")[0]


def command_name() -> str | None:
    """How this process was called, where it is one of the package's commands; else None.

    Those are `python -m exaone_ros...`, `exaone`, and what `ros2 run` finds in `lib/exaone_ros`.
    """
    arguments, words = getattr(sys, "argv", []), sys.orig_argv
    if not arguments or len(arguments) > len(words):  # embedded in something else
        return None
    if arguments[0] == "-m":  # Python's own word until the module is found, which takes the import of its packages
        module = words[-len(arguments)].removeprefix("-m")
        return module if module.partition(".")[0] == PACKAGE else None
    script = Path(arguments[0])
    ours = script.name == "exaone" or script.parts[-3:-1] == ("lib", PACKAGE)
    return script.name if ours else None


def tell_of_interrupts() -> None:
    """From now on a Ctrl-C that nobody catches is one line on stderr; Python ends the process by SIGINT, as ever."""
    name, told_before = command_name(), sys.excepthook
    if name is None:
        return

    def told(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not issubclass(kind, KeyboardInterrupt):
            told_before(kind, error, trace)
        elif sys.stderr is not None:
            print(f"{name}: interrupted", file=sys.stderr)

    sys.excepthook = told
