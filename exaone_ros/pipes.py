"""What a command does when whoever reads its output goes away, as `head` does. Knows nothing of the other rooms."""

from __future__ import annotations

import functools
import os
import select
import sys
from collections.abc import Callable
from typing import Any, TextIO, TypeVar

READER_GONE = 141  # what shells say of a program that SIGPIPE ended
Main = TypeVar("Main", bound=Callable[..., Any])


def ends_with_its_reader(main: Main) -> Main:
    """Decorate the entry point of a command: it ends without a word when nobody reads what it prints any more.

    Not by the default action of SIGPIPE: that ends the process where it stands, with its child processes still there,
    and does so for a broken connection to a server, too. Here everything on the way is closed as on any error.

    Returns:
        An entry point that returns 141 in such a case, as a shell says of `exaone doctor | head`.
    """

    @functools.wraps(main)
    def run(*arguments: Any, **named: Any) -> Any:
        try:
            try:
                result = main(*arguments, **named)
            except SystemExit:  # as behind --help
                _flush()
                raise
            _flush()
            return result
        except BrokenPipeError:
            deaf = [stream for stream in (sys.stdout, sys.stderr) if stream is not None and _is_unread(stream)]
            if not deaf:  # another pipe, or a connection: an error like any other
                raise
            for stream in deaf:
                _discard(stream)
            return READER_GONE

    return run  # type: ignore[return-value]  # the same arguments and result


def _flush() -> None:
    if sys.stdout is not None:  # as where it was closed before the command began
        sys.stdout.flush()


def _is_unread(stream: TextIO) -> bool:
    """Whether a stream is a pipe that nobody reads."""
    try:
        poll = select.poll()
        poll.register(stream.fileno(), select.POLLOUT)
    except (OSError, ValueError):  # closed, or none of the operating system's, as in tests
        return False
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))


def _discard(stream: TextIO) -> None:
    """Let what is still in a stream's buffer go nowhere: Python flushes it at exit, and would complain there."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, stream.fileno())
    finally:
        os.close(nowhere)
