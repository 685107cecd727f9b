"""Of which weights figures are: every file of figures names its weights, so that none are taken for those of others.

`export` replaces the weights of a model's folder and leaves there what was measured before; the fingerprint tells.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from exaone_ros.errors import CheckpointError
from exaone_ros.model.checkpoint import Checkpoint

EVALUATION_FILE = "evaluation.json"
"""In a checkpoint's directory: what `evaluate` measured."""
WORTH_FILE = "acceptance.json"
"""In a checkpoint's directory: what `acceptance` measured; its card shows these figures."""
STRESS_FILE = "stress.json"
"""In a checkpoint's directory: what `stress` measured; its card shows what breaks."""
CARD_FILE = "README.md"
DIGITS = 16
"""Of a fingerprint, as people are shown it."""


def fingerprint_of(model: Path) -> str:
    """SHA-256 over the configuration and the weights of a model's folder, as hex; a second per gigabyte.

    Raises:
        CheckpointError: the folder holds no model.
    """
    return Checkpoint.open(model).fingerprint()


def read_figures(file: Path) -> dict[str, Any]:
    """What a measuring command wrote; empty where there is no such file.

    Raises:
        CheckpointError: the file holds something else.
    """
    if not file.is_file():
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{file} is not JSON ({error}); measure again, or delete it") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{file} holds a {type(found).__name__}; expected a report; measure again, or delete it")
    return found


def write_figures(file: Path, report: dict[str, Any]) -> None:
    """Write what was measured as JSON; what is not a number there (of nothing there is no mean) is null."""
    file.write_text(json.dumps(_plain(report), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    """A value of a report without NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def doubt(file: Path, said: str | None, weights: str) -> str:
    """Why figures must not be taken for those of a model, in words; "" where they are of its weights.

    Args:
        file: that holds the figures.
        said: fingerprint that stands in it; None = none does.
        weights: the model's fingerprint.
    """
    if said == weights:
        return ""
    if said is None:
        return f"{file} does not say of which weights its figures are (this model's are {weights[:DIGITS]})"
    return f"{file} holds figures of another model (weights {said[:DIGITS]}; this one's are {weights[:DIGITS]})"


def refuse_replaced(model: Path, weights: str, what: str) -> None:
    """Refuse to call figures those of weights that were replaced meanwhile.

    Args:
        model: folder that was measured.
        weights: its fingerprint before that.
        what: is not written, in words, for example "no card is".

    Raises:
        CheckpointError: other weights lie there now.
    """
    if fingerprint_of(model) != weights:
        raise CheckpointError(
            f"the weights in {model} were replaced while they were measured; expected the same at the end: {what} "
            "written, measure again"
        )


def outdated(model: Path) -> list[str]:
    """What in a model's folder was measured on other weights than those that lie there now, a line each.

    Raises:
        CheckpointError: the folder holds no model, or a file of figures is damaged.
    """
    weights = fingerprint_of(model)
    files = [model / name for name in (EVALUATION_FILE, WORTH_FILE, STRESS_FILE)]
    found = [doubt(file, read_figures(file).get("weights"), weights) for file in files if file.is_file()]
    card = model / CARD_FILE
    if card.is_file() and weights[:DIGITS] not in card.read_text(encoding="utf-8"):
        found.append(f"{card} does not show figures of these weights ({weights[:DIGITS]})")
    return [line for line in found if line]
