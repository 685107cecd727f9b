"""Makes scripts/ importable; last in line, because it holds a `test.py` and a `setup.py`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "scripts"))
