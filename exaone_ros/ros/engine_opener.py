"""The engine that the parameters of the perception node name."""

from __future__ import annotations

from typing import Any

from exaone_ros.ros.perception_settings import Settings

MAX_OPEN_REQUESTS = 4096
"""As many as tasks and goals can be: those are bounded where they come in, with reasons that name them."""


def open_engine(settings: Settings) -> Any:
    """Open the engine that the settings name (imports what computes only now)."""
    from exaone_ros.engine.engine import Engine
    from exaone_ros.engine.scheduling import Scheduling
    from exaone_ros.engine.server import ServerEngine
    from exaone_ros.engine.server_settings import ServerSettings
    from exaone_ros.engine.service import EngineService
    from exaone_ros.engine.speculation import Speculation

    if settings.backend == "server":
        address = settings.server_url, settings.server_model
        return ServerEngine(ServerSettings(*address, timeout_s=settings.engine_timeout_s))
    engine = Engine.open(
        settings.model,
        settings.backend,
        slots=settings.slots,
        context=settings.context,
        threads=settings.threads,
        device=settings.device,
        visual_tokens=settings.visual_tokens,
        speculation=Speculation(previous=settings.draft_previous, mtp=settings.draft_mtp, ngram=settings.draft_ngram),
        scheduling=Scheduling(kept_mb=settings.kept_mb),
    )
    return EngineService(engine, max_open=MAX_OPEN_REQUESTS, hang_s=settings.engine_timeout_s)
