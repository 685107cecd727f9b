"""Remembers which inputs each step was done from, so that nothing is done twice and nothing stale is kept."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

_FILE = ".provisioned.json"


def fingerprint(files: Iterable[Path], *facts: str) -> str:
    """Hash of the content of files and of some facts, e.g. versions; names of files count, their folders do not."""
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    for fact in facts:
        digest.update(f"\0{fact}".encode())
    return digest.hexdigest()


class Stamps:
    """The steps done in one directory, in a small JSON file inside it.

    A step is forgotten before it is redone, so that an interrupted one is never taken for done.
    """

    def __init__(self, directory: Path):
        self._path = directory / _FILE

    def is_done(self, step: str, mark: str) -> bool:
        return self._read().get(step) == mark

    def knows(self, step: str) -> bool:
        """True where the step was done, from whatever inputs."""
        return step in self._read()

    def forget(self, step: str) -> None:
        done = self._read()
        if done.pop(step, None) is not None:
            self._write(done)

    def done(self, step: str, mark: str) -> None:
        self._write({**self._read(), step: mark})

    def _read(self) -> dict[str, str]:
        try:
            content = json.loads(self._path.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return {}  # nothing was done, or the machine stopped amid a write: redo everything
        return content if isinstance(content, dict) else {}

    def _write(self, done: dict[str, str]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_suffix(".new")
        fresh.write_text(json.dumps(done, indent=1))
        fresh.replace(self._path)


@contextlib.contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """Hold a directory against a second set-up that runs at the same time; it waits for the first."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    lock = directory.with_name(directory.name + ".lock")
    with lock.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
