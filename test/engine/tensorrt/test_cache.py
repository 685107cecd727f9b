"""Engines are published whole or not at all, built once, and never taken for another."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import shutil
import signal
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from engine.tensorrt.fake_tensorrt import corrupt

from exaone_ros.engine.tensorrt import cache as caching
from exaone_ros.engine.tensorrt.cache import (
    MANIFEST,
    PLAN,
    VERIFIED,
    EngineCache,
    EngineKey,
    StaleEngine,
    default_root,
    file_hash,
)
from exaone_ros.errors import EngineError

KEY = EngineKey("decoder", "aa", "bb", {"opset": 24}, "tensorrt", "10.16", "Fake sm_90")
NOBODY = 65534
FORK = multiprocessing.get_context("fork")


def engine(folder: Path) -> bytes:
    assert folder.is_dir()
    return b"engine" * 100


def never(folder: Path) -> bytes:
    raise AssertionError("built again")


def test_an_engine_is_built_once(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path / "engines")
    assert cache.find(KEY) is None
    plan, built = cache.get_or_build(KEY, engine, extra={"note": 1})
    assert built and plan.read_bytes() == engine(tmp_path)
    assert cache.get_or_build(KEY, never) == (plan, False)
    assert [manifest["note"] for _, manifest in cache.entries()] == [1]
    assert sorted(p.name for p in plan.parent.iterdir()) == [PLAN, MANIFEST, VERIFIED]


def test_a_plan_is_read_for_its_check_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = EngineCache(tmp_path)
    plan, _ = root.get_or_build(KEY, engine)
    reads: list[Path] = []
    monkeypatch.setattr(caching, "file_hash", lambda path: (reads.append(path), file_hash(path))[1])
    assert root.find(KEY) == root.find(KEY) == plan and len(reads) == 1
    os.utime(plan, ns=(1, 1))
    assert root.find(KEY) == root.find(KEY) == plan and len(reads) == 2
    (plan.parent / VERIFIED).write_text("{")
    assert root.find(KEY) == plan and len(reads) == 3
    corrupt(plan)  # of the same size
    with pytest.raises(StaleEngine, match="does not have the content that was built"):
        root.find(KEY)


def test_a_full_disk_keeps_no_engine_from_being_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    root = EngineCache(tmp_path)
    plan, _ = root.get_or_build(KEY, engine)
    monkeypatch.setattr(caching, "write_whole", full)
    os.utime(plan, ns=(1, 1))
    assert root.find(KEY) == plan


@pytest.mark.parametrize("field", ["weights", "graph", "plan", "version", "gpu", "library", "name"])
def test_everything_that_matters_makes_another_key(field: str) -> None:
    other = {"opset": 20} if field == "plan" else "other"
    assert replace(KEY, **{field: other}).digest != KEY.digest


def _build_slowly(root: Path, log: Path, go: Any) -> None:
    def build(folder: Path) -> bytes:
        with log.open("a") as file:
            file.write(f"{os.getpid()}\n")
        return engine(folder)

    go.wait()
    EngineCache(root).get_or_build(KEY, build)


def test_two_processes_build_once(tmp_path: Path) -> None:
    go, log = FORK.Event(), tmp_path / "log"
    workers = [FORK.Process(target=_build_slowly, args=(tmp_path / "engines", log, go)) for _ in range(3)]
    for worker in workers:
        worker.start()
    go.set()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert len(log.read_text().splitlines()) == 1


def _die_while_building(root: Path) -> None:
    def build(folder: Path) -> bytes:
        (folder / "half").write_bytes(b"half an engine")
        os.kill(os.getpid(), signal.SIGKILL)
        return b""

    EngineCache(root).get_or_build(KEY, build)


def test_a_killed_build_leaves_no_engine_and_no_lock(tmp_path: Path) -> None:
    worker = FORK.Process(target=_die_while_building, args=(tmp_path,))
    worker.start()
    worker.join(60)
    assert worker.exitcode == -signal.SIGKILL
    cache = EngineCache(tmp_path)
    assert cache.find(KEY) is None and cache.entries() == []
    assert list(tmp_path.glob(".building-*/half"))
    assert cache.get_or_build(KEY, engine)[1]
    assert not list(tmp_path.glob(".building-*")), "what a killed build left takes as much disk as an engine"


def test_a_failed_build_leaves_nothing(tmp_path: Path) -> None:
    def fail(folder: Path) -> bytes:
        raise EngineError("refused")

    with pytest.raises(EngineError, match="refused"):
        EngineCache(tmp_path).get_or_build(KEY, fail)
    assert [p.suffix for p in tmp_path.iterdir()] == [".lock"]


def damage_content(folder: Path) -> None:
    corrupt(folder / PLAN)


def truncate(folder: Path) -> None:
    (folder / PLAN).write_bytes(b"short")


def remove(folder: Path) -> None:
    (folder / PLAN).unlink()


def spoil_manifest(folder: Path) -> None:
    (folder / MANIFEST).write_text("{")


def swap(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**manifest, "gpu": "Other sm_87"}))


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (damage_content, "does not have the content that was built"),
        (truncate, "has 5 bytes; its manifest says 600"),
        (remove, "has no bytes"),
        (spoil_manifest, "cannot be read"),
        (swap, "built for another gpu .*Other sm_87"),
    ],
)
def test_a_damaged_or_foreign_engine_is_refused_and_rebuilt_on_request(tmp_path: Path, harm: Any, reason: str) -> None:
    cache = EngineCache(tmp_path)
    plan, _ = cache.get_or_build(KEY, engine)
    harm(plan.parent)
    for attempt in (lambda: cache.find(KEY), lambda: cache.get_or_build(KEY, never)):
        with pytest.raises(StaleEngine, match=reason):
            attempt()
    assert cache.get_or_build(KEY, engine, rebuild=True) == (plan, True)
    assert cache.find(KEY) == plan


def full(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("at", ["graph", "engine", "manifest", "rename"])
@pytest.mark.parametrize("before", [False, True])
def test_a_full_disk_is_named_and_leaves_nothing_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str, before: bool
) -> None:
    """Whatever is being written; an engine that there was before stays."""
    cache = EngineCache(tmp_path)
    if before:
        cache.get_or_build(KEY, engine)
    if at == "engine":
        monkeypatch.setattr(os, "fsync", full)
    elif at == "manifest":
        monkeypatch.setattr(Path, "write_text", full)
    elif at == "rename":
        rename = Path.rename
        monkeypatch.setattr(Path, "rename", lambda path, to: full() if path.name == "ready" else rename(path, to))
    with pytest.raises(EngineError, match=rf"engine cache {tmp_path} cannot be written: .*No space left.*; make room"):
        cache.get_or_build(KEY, full if at == "graph" else engine, rebuild=before)
    monkeypatch.undo()
    assert not list(tmp_path.glob(".building-*"))
    assert (cache.find(KEY) is not None) == before


def test_a_file_system_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: Any) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(caching.fcntl, "flock", no_locks)
    with pytest.raises(EngineError, match=r"cannot be written: .*locks.*choose another with --cache"):
        EngineCache(tmp_path).get_or_build(KEY, never)


def test_a_copied_engine_is_found_out(tmp_path: Path) -> None:
    """A folder under the name of another key says what it really is."""
    cache, other = EngineCache(tmp_path), replace(KEY, weights="changed")
    plan, _ = cache.get_or_build(KEY, engine)
    shutil.copytree(plan.parent, cache.folder(other))
    with pytest.raises(StaleEngine, match="another weights"):
        cache.find(other)


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EngineError, match=r"cannot be written: .*choose another with --cache"):
        EngineCache(tmp_path / "file" / "engines").get_or_build(KEY, never)


def _build_as_nobody(root: Path, said: Any) -> None:
    if os.geteuid() == 0:  # root may write everywhere
        os.setuid(NOBODY)
    try:
        EngineCache(root / "engines").get_or_build(KEY, never)
    except EngineError as error:
        said.put(str(error))


def test_a_read_only_cache_is_named() -> None:
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to other users
        root, said = Path(name), FORK.Queue()
        root.chmod(0o555)
        worker = FORK.Process(target=_build_as_nobody, args=(root, said))
        worker.start()
        message = said.get(timeout=60)
        worker.join(60)
    assert f"engine cache {root / 'engines'} cannot be written" in message and "choose another with --cache" in message


def test_engines_of_a_read_only_cache_are_found(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path)
    plan, _ = cache.get_or_build(KEY, engine)
    next(tmp_path.glob("*.lock")).unlink()
    assert cache.find(KEY) == plan


def test_the_environment_names_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EXAONE_ENGINES", str(tmp_path))
    assert default_root() == tmp_path
    monkeypatch.delenv("EXAONE_ENGINES")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert default_root() == Path("/x/exaone_ros/engines")
