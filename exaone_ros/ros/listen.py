"""Spin a node beside a main thread that has work of its own: for tools that read along and then end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node


@contextmanager
def spinning(node: Node) -> Iterator[None]:
    """Spin `node` in a thread for the length of the `with` block, then take it down in order.

    What a callback raises is raised here at the end of the block: a tool that has gone deaf must not end well.
    """
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    stopping = threading.Event()
    failures: list[Exception] = []

    def spin() -> None:
        try:
            while not stopping.is_set():
                executor.spin_once()
        except ExternalShutdownException:
            pass  # the context went first: there is nothing left to listen to
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=spin, name="executor")
    thread.start()
    try:
        yield
    finally:
        executor.create_task(stopping.set)  # a task, because merely being woken does not make spin_once return
        thread.join()
        executor.shutdown()
        node.destroy_node()
    if failures:
        raise failures[0]
