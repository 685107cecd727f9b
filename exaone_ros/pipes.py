"""How a command ends: when nobody reads its output any more (`| head`), when there is no room for it, by signals.

Knows nothing of the other rooms.
"""

from __future__ import annotations

import functools
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO, TypeVar

READER_GONE = 141  # what shells say of a program that SIGPIPE ended
UNWRITABLE = 1
Main = TypeVar("Main", bound=Callable[..., Any])


def ends_with_its_reader(main: Main) -> Main:
    """Decorate the entry point of a command: it ends without a word when nobody reads what it prints any more.

    Where what it prints cannot be written for another reason (a full disk, `>/dev/full`), it ends with a line.

    Not by the default action of SIGPIPE: that ends the process where it stands, with its child processes still there,
    and does so for a broken connection to a server, too. Here everything on the way is closed as on any error.

    Returns:
        An entry point that returns 141 where nobody reads, as a shell says of `exaone doctor | head`, and 1 where
        there is no room.
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
        except OSError as error:
            if sys.stdout is None or not _is_unwritable(sys.stdout, error):
                raise
            _discard(sys.stdout)
            _complain(f"error: what this command prints cannot be written to standard output: {error.strerror}")
            return UNWRITABLE

    return run  # type: ignore[return-value]  # the same arguments and result


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGTERM, and SIGHUP of a terminal that is closed, end this process as Ctrl-C does: through its `with` blocks.

    Else they would end it alone and at once, and the processes that it has started, each in a session of its own, would
    go on for ever. For the main function of a command that starts some, or has something to save, as a decorator; what
    is ignored (nohup) or caught stays so.
    """
    changed: list[signal.Signals] = []
    if threading.current_thread() is threading.main_thread():  # Python allows it nowhere else
        changed = [s for s in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(s) is signal.SIG_DFL]
    for number in changed:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in changed:
            signal.signal(number, signal.SIG_DFL)


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


def _is_unwritable(stream: TextIO, error: OSError) -> bool:
    """Whether an error that names no file is that of writing to this stream: then it comes again."""
    if error.filename is not None:
        return False
    try:
        stream.write("\n")  # one that does not buffer has nothing to flush
        stream.flush()
    except OSError as again:
        return again.errno == error.errno
    except ValueError:  # closed by the command itself
        return False
    return False


def _complain(text: str) -> None:
    """Say it on stderr, if that can be written."""
    if sys.stderr is None:
        return
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:  # `>/dev/full 2>&1`: the exit status has to do
        _discard(sys.stderr)


def _discard(stream: TextIO) -> None:
    """Let what is still in a stream's buffer go nowhere: Python flushes it at exit, and would complain there."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, stream.fileno())
    finally:
        os.close(nowhere)
