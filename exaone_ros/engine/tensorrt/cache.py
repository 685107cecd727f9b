"""Built engines on disk: found by what they were built from, published whole or not at all, built once.

<root>/<name>-<key>/engine.plan      the engine
<root>/<name>-<key>/manifest.json    what it was built from, and the SHA-256 of the plan
<root>/<name>-<key>/verified.json    size, time and inode of the plan when its content was last compared with that
<root>/<name>-<key>.lock             held by the process that builds
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exaone_ros.errors import EngineError

PLAN, MANIFEST, VERIFIED = "engine.plan", "manifest.json", "verified.json"
FORMAT = 1
_BLOCK = 1 << 22


class StaleEngine(EngineError):
    """An engine in the cache is damaged or does not belong to what was asked for."""


@dataclass(frozen=True)
class EngineKey:
    """Everything that an engine depends on.

    Attributes:
        name: "vision" or "decoder".
        weights: fingerprint of the checkpoint, and of the input scales of the quantisation if there are any.
        graph: hash of the graph without its weights.
        plan: precision, shapes and limits, as plain data.
        library, version: that built it.
        gpu: name and compute capability of the device; "any" for engines that any GPU of a family loads.
    """

    name: str
    weights: str
    graph: str
    plan: dict[str, Any]
    library: str
    version: str
    gpu: str

    def as_json(self) -> dict[str, Any]:
        return {field: getattr(self, field) for field in self.__dataclass_fields__}

    @property
    def digest(self) -> str:
        text = json.dumps({"format": FORMAT, **self.as_json()}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:24]


class EngineCache:
    """A folder of engines. Safe for several processes."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def folder(self, key: EngineKey) -> Path:
        return self.root / f"{key.name}-{key.digest}"

    def find(self, key: EngineKey) -> Path | None:
        """The plan of an engine, checked; None when it was never built.

        Its content is read for the check once, and again whenever the file has changed since: a plan of the real model
        is tens of gigabytes. Where the folder cannot be written it is read each time.

        Raises:
            StaleEngine: it is damaged, or its manifest says that it is another; with the reason.
        """
        folder = self.folder(key)
        if not folder.is_dir():
            return None
        manifest = _read_manifest(folder)
        for field, wanted in key.as_json().items():
            if manifest.get(field) != wanted:
                raise StaleEngine(
                    f"{folder} was built for another {field} ({manifest.get(field)!r:.80} instead of {wanted!r:.80}); "
                    "build it again: exaone compile --rebuild"
                )
        plan = folder / PLAN
        if not plan.is_file() or plan.stat().st_size != manifest.get("plan_bytes"):
            size = plan.stat().st_size if plan.is_file() else "no"
            raise StaleEngine(
                f"{plan} has {size} bytes; its manifest says {manifest.get('plan_bytes')}: it is damaged, build it "
                "again: exaone compile --rebuild"
            )
        if _verified(folder) != (stamp := _stamp(plan)):
            try:
                content = file_hash(plan)
            except OSError as error:
                raise StaleEngine(f"{plan} cannot be read: {error}") from error
            if content != manifest.get("plan_sha256"):
                raise StaleEngine(f"{plan} does not have the content that was built; exaone compile --rebuild")
            if os.access(folder, os.W_OK):
                with contextlib.suppress(OSError):  # a full disk: the plan is sound, and is read again the next time
                    write_whole(folder / VERIFIED, json.dumps(stamp).encode())
        return plan

    def get_or_build(
        self,
        key: EngineKey,
        build: Callable[[Path], Any],
        *,
        rebuild: bool = False,
        extra: dict[str, Any] | None = None,
    ) -> tuple[Path, bool]:
        """The plan of an engine, built if need be. A second process that asks at the same time waits and finds it.

        Args:
            key: of the engine.
            build: makes the plan (a buffer of bytes); is given an empty folder to work in.
            rebuild: build even if there is one, whole or damaged.
            extra: figures for the manifest that no engine depends on.

        Returns:
            The path of the plan, and True if it was built now.

        Raises:
            StaleEngine: there is one that cannot be used, and `rebuild` is False.
            EngineError: the folder cannot be written, or `build` failed.
        """
        if not rebuild and (plan := self.find(key)) is not None:
            return plan, False
        with self._lock(key):
            if not rebuild and (plan := self.find(key)) is not None:
                return plan, False
            prefix = f".building-{key.digest}-"
            for left in self.root.glob(prefix + "*"):  # of a build that was killed: its lock is free, so it is over
                shutil.rmtree(left, ignore_errors=True)
            try:
                with tempfile.TemporaryDirectory(prefix=prefix, dir=self.root) as scratch:
                    self._publish(key, build(Path(scratch)), Path(scratch), extra or {})
            except OSError as error:  # most often a full disk, while graph or engine are written
                raise unwritable(self.root, error) from error
        return self.folder(key) / PLAN, True

    def entries(self) -> list[tuple[Path, dict[str, Any]]]:
        """Folders and manifests of all engines whose manifest can be read, newest first."""
        found = []
        for folder in self.root.iterdir() if self.root.is_dir() else ():
            with contextlib.suppress(StaleEngine):
                if (folder / MANIFEST).is_file():
                    found.append((folder, _read_manifest(folder)))
        return sorted(found, key=lambda entry: (entry[0] / MANIFEST).stat().st_mtime_ns, reverse=True)

    def _publish(self, key: EngineKey, engine: Any, scratch: Path, extra: dict[str, Any]) -> None:
        """Write plan and manifest beside their place, then rename: readers see all of it or nothing."""
        ready = scratch / "ready"
        ready.mkdir()
        plan = ready / PLAN
        with plan.open("wb") as file:
            file.write(memoryview(engine))
            file.flush()
            os.fsync(file.fileno())
        facts = {"format": FORMAT, "plan_bytes": plan.stat().st_size, "plan_sha256": file_hash(plan)}
        manifest = {**extra, **key.as_json(), **facts}
        (ready / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True), encoding="utf-8")
        target, before = self.folder(key), scratch / "before"  # what was there goes with the scratch folder
        if target.exists():
            target.rename(before)
        try:
            ready.rename(target)
        except OSError:
            if before.exists():
                before.rename(target)
            raise

    @contextlib.contextmanager
    def _lock(self, key: EngineKey) -> Iterator[None]:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            file = (self.root / f"{key.name}-{key.digest}.lock").open("w")
        except OSError as error:
            raise unwritable(self.root, error) from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX)  # released by the system however the process ends
            except OSError as error:  # a file system without locks
                raise unwritable(self.root, error) from error
            yield


def unwritable(root: Path, error: OSError) -> EngineError:
    """That the cache cannot be written, with the reason."""
    remedy = "make room, or choose another" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "choose another"
    return EngineError(f"engine cache {root} cannot be written: {error}; {remedy} with --cache or EXAONE_ENGINES")


def default_root() -> Path:
    """$EXAONE_ENGINES, or `exaone_ros/engines` in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("EXAONE_ENGINES") or Path(base) / "exaone_ros" / "engines")


def file_hash(path: Path) -> str:
    """SHA-256 of a file as hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def write_whole(path: Path, content: bytes) -> None:
    """Write a small file so that others see all of it or what was there before.

    Raises:
        OSError: its folder cannot be written.
    """
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        scratch.write_bytes(content)
        scratch.replace(path)
    except OSError:
        scratch.unlink(missing_ok=True)
        raise


def _stamp(plan: Path) -> dict[str, int]:
    stat = plan.stat()
    return {"bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns, "inode": stat.st_ino}


def _verified(folder: Path) -> dict[str, int] | None:
    try:
        found = json.loads((folder / VERIFIED).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # not there, or not whole: the plan is read again
        return None
    return found if isinstance(found, dict) else None


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StaleEngine(f"{folder / MANIFEST} cannot be read: {error}; exaone compile --rebuild") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise StaleEngine(f"{folder / MANIFEST} is of another format; exaone compile --rebuild")
    return manifest
