"""A node of a test's process in a context of its own, spun by a thread until it is taken down in order."""

from __future__ import annotations

import threading

import rclpy
from rclpy.executors import SingleThreadedExecutor


class SpunNode:
    """Make what the node needs, then `_spin_from_now_on`; end with `close`.

    Attributes:
        node: whose callbacks run in the thread.
    """

    def __init__(self, name: str, namespace: str = "") -> None:
        self._context = rclpy.Context()
        rclpy.init(context=self._context)
        self.node = rclpy.create_node(name, namespace=namespace, context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._spin, name=name, daemon=True)

    def _spin_from_now_on(self) -> None:
        self._executor.add_node(self.node)
        self._thread.start()

    def _spin(self) -> None:
        while not self._stopping.is_set():
            self._executor.spin_once()

    def close(self) -> None:
        """End the thread, then free everything."""
        self._executor.create_task(self._stopping.set)  # a task, because merely being woken does not end spin_once
        self._thread.join()
        self._executor.shutdown()
        self._free()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self._context)

    def _free(self) -> None:
        """Free what the node does not free by itself; nothing spins any more."""
