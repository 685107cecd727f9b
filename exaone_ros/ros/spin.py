"""Run one node as a process: spin in a thread, end in order and in time.

rclpy's own signal handling ends `spin` wherever it is and leaves the order of the rest to chance; a node whose threads
outlive the context aborts the process. Here the main thread waits, and takes down everything in order when asked to.
"""

from __future__ import annotations

import gc
import os
import queue
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, Protocol

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from exaone_ros.errors import ExaoneError

END_WITHIN_S = 1.8
"""A process that was asked to end is gone after this long, whatever its threads are stuck in."""

_PLACES_IN_RCL = re.compile(r", at \S+:\d+")
"""What rcl adds to its errors: lines of its own source."""

FAILURES_IN_A_ROW = 10
"""After that many callbacks that raised, one after the other, the executor itself is taken to be broken."""


class NodeCannotGoOn(Exception):
    """Raised in a callback or a task of the executor: ends the process in order, with the message and code 1."""


class Runnable(Protocol):
    """What `run_node` needs of a node besides being an rclpy Node."""

    def begin(self) -> None:
        """Called once in the executor's thread, as soon as it spins; for autostart."""
        ...

    def end(self) -> None:
        """Stop all threads of the node's own and free what it holds; the executor has stopped already."""
        ...


def run_node(make: Callable[[], Any], arguments: Sequence[str] | None = None) -> NoReturn:
    """Make a node, spin it until SIGINT or SIGTERM, take it down in order, and end the process.

    The exit code is 0 after a signal, and 1 where the node could not be made, said that it cannot go on
    (`NodeCannotGoOn`), or its executor broke.

    Args:
        make: returns a node that is `Runnable`; called after rclpy is initialised.
        arguments: command line; default: this process's.
    """
    code = _run(make, arguments)
    # Nothing is left but the static destructors of Fast DDS, which take up to a second of the time we have.
    gc.collect()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def reason_of_rcl(error: RuntimeError) -> str:
    """What rcl does not like about arguments or the place of its logs, for whoever gave them."""
    reason = _PLACES_IN_RCL.sub("", str(error))
    return f"{reason}; set ROS_LOG_DIR to a folder that can be written" if "log directory" in reason else reason


def _run(make: Callable[[], Any], arguments: Sequence[str] | None) -> int:
    try:
        rclpy.init(args=None if arguments is None else list(arguments), signal_handler_options=SignalHandlerOptions.NO)
    except RuntimeError as error:  # arguments that rcl cannot read, a parameter file that is not there, no logs
        print(f"error: {reason_of_rcl(error)}", file=sys.stderr)
        return 1
    # A SimpleQueue may be filled by a signal handler while the same thread waits on it; an Event may not.
    reasons: queue.SimpleQueue[str] = queue.SimpleQueue()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _frame: reasons.put(signal.Signals(received).name))
    try:
        node = make()
    except ExaoneError as error:  # says what is wrong and what to do; a traceback would bury it
        print(f"error: {error}", file=sys.stderr)
        rclpy.try_shutdown()
        return 1
    except Exception:
        traceback.print_exc()
        rclpy.try_shutdown()
        return 1
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    executor.create_task(node.begin)
    stopping = threading.Event()
    thread = threading.Thread(target=_spin, args=(node, executor, stopping, reasons), name="executor", daemon=True)
    thread.start()

    reason = reasons.get()
    deadline = threading.Timer(END_WITHIN_S, _give_up, args=(reason,))
    deadline.daemon = True
    deadline.start()
    node.get_logger().info(f"ending: {reason}")
    executor.create_task(stopping.set)  # a task, because merely being woken does not make spin_once return
    thread.join()
    executor.shutdown()  # not before its thread has left it: this destroys what the thread waits on
    node.end()
    node.destroy_node()
    rclpy.try_shutdown()
    rclpy.get_default_context().destroy()
    return 0 if reason.startswith("SIG") else 1


def _spin(
    node: Any, executor: SingleThreadedExecutor, stopping: threading.Event, reasons: queue.SimpleQueue[str]
) -> None:
    failures = 0
    while not stopping.is_set():
        try:
            executor.spin_once()
            failures = 0
        except ExternalShutdownException:
            return reasons.put("SIGNAL: the ROS context was shut down")
        except NodeCannotGoOn as error:
            return reasons.put(str(error))
        except Exception:  # a callback raised: a node that looks after a robot says so and goes on
            failures += 1
            node.get_logger().error(f"a callback failed:\n{traceback.format_exc()}")
            if failures == FAILURES_IN_A_ROW:
                return reasons.put(f"{failures} callbacks in a row failed")
    return None


def _give_up(reason: str) -> None:
    """End the process although a thread is stuck, e.g. in loading a model or in one long step of the engine."""
    stuck = ", ".join(thread.name for thread in threading.enumerate() if thread is not threading.main_thread())
    print(f"{reason}: not ended in order within {END_WITHIN_S:g} s (threads: {stuck}); ending now", file=sys.stderr)
    sys.stderr.flush()
    sys.stdout.flush()
    os._exit(0 if reason.startswith("SIG") else 1)
