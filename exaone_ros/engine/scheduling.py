"""Settings of the scheduler: how much of the backend one prompt may take, who waits how long, what is kept."""

from __future__ import annotations

from dataclasses import dataclass

from exaone_ros.errors import EngineError


@dataclass(frozen=True)
class Scheduling:
    """Settings of a scheduler.

    Attributes:
        prefill_tokens: tokens of prompts in one call of the decoder at most, >= 16: how long others may have to wait.
        starving_calls: calls of others for which a paused job gets one, >= 1.
        kept_heads: prompt heads kept for later questions at most when nobody uses them; None = half of the slots.
        kept_pictures: encoded pictures kept at most, >= 1.
        kept_mb: memory in MB (10^6 bytes) that kept heads and encoded pictures may take together, the least recently
            used going first; None = as much as their numbers allow.

    Raises:
        EngineError: a value is out of range.
    """

    prefill_tokens: int = 512
    starving_calls: int = 64
    kept_heads: int | None = None
    kept_pictures: int = 16
    kept_mb: int | None = None

    def __post_init__(self) -> None:
        for name, value, least in (
            ("prefill_tokens", self.prefill_tokens, 16),
            ("starving_calls", self.starving_calls, 1),
            ("kept_heads", 0 if self.kept_heads is None else self.kept_heads, 0),
            ("kept_pictures", self.kept_pictures, 1),
            ("kept_mb", 0 if self.kept_mb is None else self.kept_mb, 0),
        ):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise EngineError(f"scheduling: {name} is {value!r}; expected an integer from {least} on")
