"""Where the package's own files are: configuration, launch files, models. Knows nothing of the other rooms."""

from __future__ import annotations

import sys
from pathlib import Path

from exaone_ros.errors import ExaoneError

PACKAGE = "exaone_ros"


def share_path(relative: str) -> Path:
    """Path of a file or directory that ships with the package, e.g. ``config/perception.yaml``.

    Looks next to the source (a checkout, also `colcon build --symlink-install`), then in the share directory of
    every prefix that this Python knows: the install space of a colcon workspace, or a venv.

    Raises:
        ExaoneError: nowhere to be found; names the places.
    """
    here = Path(__file__).resolve().parent
    prefixes = [*here.parents, Path(sys.prefix)]
    places = [here.parent, *(prefix / "share" / PACKAGE for prefix in prefixes)]
    for place in places:
        if (place / relative).exists():
            return place / relative
    searched = ", ".join(str(place) for place in places)
    raise ExaoneError(f"'{relative}' of {PACKAGE} was not found; searched {searched}: is the package installed whole?")
