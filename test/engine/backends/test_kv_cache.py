"""Caches keep what their slots hold while memory is laid out anew, and copy what they are told to."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model.tiny_checkpoint import tiny_config

from exaone_ros.engine.backends.kv_cache import CAPACITY_STEP, HostKvCache, KvCache, neighbours
from exaone_ros.engine.backends.ring import Ring
from exaone_ros.model.config import ModelConfig

CONFIG = ModelConfig.parse(tiny_config({"num_hidden_layers": 1, "layer_types": ["full_attention"]})).text
SLOTS, CONTEXT = 4, 700


def memory(cache: KvCache, name: str) -> np.ndarray:
    """The tensor as a runtime sees it through its address."""
    shape = cache.shape(name, SLOTS)
    address = ctypes.cast(cache.place(name, 0), ctypes.POINTER(ctypes.c_float))
    return np.ctypeslib.as_array(address, shape)


def caches() -> list[KvCache]:
    found: list[KvCache] = [HostKvCache(CONFIG, SLOTS, CONTEXT)]
    try:
        import onnxruntime

        from exaone_ros.engine.backends.device_kv_cache import DeviceKvCache
    except ImportError:
        return found
    # The memory of the CPU stands in for that of a GPU: same code, another address space.
    return [*found, DeviceKvCache(onnxruntime, CONFIG, SLOTS, CONTEXT, ("CPUExecutionProvider", {}))]


@pytest.mark.parametrize("cache", caches(), ids=lambda cache: type(cache).__name__)
def test_a_copy_reaches_every_target_and_nobody_else(cache: KvCache) -> None:
    for number, name in enumerate(cache.names):
        view = memory(cache, name)
        view[0, :, :20] = 1 + number
        view[2, :, :20] = -1
    cache.copy(0, [1, 3], 20)
    for number, name in enumerate(cache.names):
        view = memory(cache, name)
        for slot, value in ((0, 1 + number), (1, 1 + number), (2, -1), (3, 1 + number)):
            assert (view[slot, :, :20] == value).all()
        assert not view[:, :, 20:].any()


@pytest.mark.parametrize("cache", caches(), ids=lambda cache: type(cache).__name__)
def test_the_address_of_a_slot_follows_the_shape(cache: KvCache) -> None:
    memory(cache, "v.0")[2] = 7
    address = ctypes.cast(cache.place("v.0", 2), ctypes.POINTER(ctypes.c_float))
    assert (np.ctypeslib.as_array(address, cache.shape("v.0", 1)) == 7).all()


@settings(deadline=None)
@given(
    st.lists(st.integers(0, CONTEXT), min_size=SLOTS, max_size=SLOTS),
    st.lists(st.integers(1, CONTEXT), min_size=1, max_size=6),
)
def test_what_is_held_survives_every_change_of_capacity(held: list[int], needs: list[int]) -> None:
    cache = HostKvCache(CONFIG, SLOTS, CONTEXT)
    lengths = np.array(held, np.int64)
    cache.ensure(max(1, *held), np.zeros(SLOTS, np.int64))
    rng = np.random.default_rng(0)
    expected = {}
    for name in cache.names:
        view = memory(cache, name)
        for slot, length in enumerate(held):
            view[slot, :, :length] = expected[name, slot] = rng.normal(size=view[slot, :, :length].shape).astype(
                np.float32
            )
    for need in needs:
        cache.ensure(need, lengths)
        assert max(need, *held) <= cache.capacity <= CONTEXT
        assert cache.capacity % CAPACITY_STEP == 0 or cache.capacity == CONTEXT
        for (name, slot), values in expected.items():
            np.testing.assert_array_equal(memory(cache, name)[slot, :, : held[slot]], values)


def test_a_device_copies_rings_and_the_rest() -> None:
    pytest.importorskip("onnxruntime")
    import onnxruntime

    from exaone_ros.engine.backends.device_kv_cache import DeviceKvCache

    config = ModelConfig.parse(tiny_config()).text
    cache = DeviceKvCache(onnxruntime, config, SLOTS, CONTEXT, ("CPUExecutionProvider", {}), Ring(24, 16, 40))
    assert [cache.shape(name, 1)[2] for name in ("k.0", "v.2", "k.3", "v.3")] == [40, 40, CONTEXT, CONTEXT]
    for name in cache.names:
        memory(cache, name)[1] = 5
    cache.copy(1, [2], 600)
    for name in cache.names:
        assert [float(part.min()) for part in memory(cache, name)] == [0, 5, 5, 0]


def test_capacity_grows_by_steps_and_shrinks_only_when_half_is_idle() -> None:
    cache, nothing = HostKvCache(CONFIG, SLOTS, CONTEXT), np.zeros(SLOTS, np.int64)
    seen = []
    for need in (1, 128, 129, 300, 260, 200, 100, 700):
        moved = cache.ensure(need, nothing)
        seen.append((cache.capacity, moved))
    assert seen == [
        (128, False),
        (128, False),
        (256, True),
        (384, True),
        (384, False),
        (384, False),
        (128, True),
        (700, True),
    ]


def test_neighbouring_slots_are_written_together() -> None:
    assert neighbours([]) == []
    assert neighbours([5]) == [(5, 6)]
    assert neighbours([4, 1, 2, 7, 3]) == [(1, 5), (7, 8)]


def test_a_cache_whose_capacity_is_fixed_never_moves() -> None:
    fixed, growing = HostKvCache(CONFIG, SLOTS, 192, least=129), HostKvCache(CONFIG, SLOTS, CONTEXT)
    assert fixed.fixed and not growing.fixed
    held = np.zeros(SLOTS, np.int64)
    for positions in (1, 130, 192):
        assert not fixed.ensure(positions, held) and not fixed.ensure(positions, held, tight=True)
        assert fixed.capacity == 192
