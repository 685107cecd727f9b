"""The errors that users of the package meet. Knows nothing of the other rooms.

A message names the thing, the value found, what was expected and what to do about it.
"""

from __future__ import annotations

import importlib
from types import ModuleType


class ExaoneError(Exception):
    """Base of every error raised on purpose by this package."""


class CheckpointError(ExaoneError):
    """A checkpoint directory is missing, damaged, or of another architecture."""


class ImageError(ExaoneError, ValueError):
    """An image cannot be used: its shape, type, encoding or size is wrong."""


class TaskError(ExaoneError, ValueError):
    """A task (what is asked of a frame) is not valid."""


class PromptTooLong(ExaoneError):
    """Prompt and answer do not fit into the context of the engine."""


class EngineError(ExaoneError, RuntimeError):
    """The engine or its backend failed or was used after `close()`."""


class EngineBusy(EngineError):
    """The engine has no room for a request: what it holds is of equal or higher priority."""


class EngineHung(EngineError):
    """A call of the backend does not return; the engine that waits for it takes no more requests."""


class ServerUnavailable(EngineError):
    """The server that computes is not reached, does not answer in time or breaks down; asking later may help."""


class SimulationError(ExaoneError, ValueError):
    """What was asked of the simulator is not valid: a scene, an image size, a trajectory."""


class ActionError(ExaoneError, ValueError):
    """An action spec, an observation or a chunk of actions is not valid, or a head cannot do what was asked."""


class DatasetError(ExaoneError):
    """A dataset of recorded episodes is missing, damaged, or not of the shape that was asked for."""


class MissingExtra(ExaoneError, ImportError):
    """An optional dependency is not installed."""


def require(module: str, extra: str) -> ModuleType:
    """Import an optional dependency, or say which extra brings it.

    Args:
        module: dotted module name, e.g. ``onnxruntime``.
        extra: the extra of this package that installs it, e.g. ``cpu``.

    Raises:
        MissingExtra: the module is not installed, or cannot be loaded, e.g. for lack of a system library.
    """
    get_it = f"pip install 'exaone_ros[{extra}]'"
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.split(".")[0] != module.split(".")[0]:
            raise  # the module is there, something that it needs is not: hiding that helps nobody
        raise MissingExtra(f"'{module}' is not installed; it comes with the extra '{extra}': {get_it}") from error
    except ImportError as error:
        raise MissingExtra(
            f"'{module}' is installed, but cannot be loaded: {error}; install what that names, or the extra "
            f"'{extra}' anew: {get_it}"
        ) from error
