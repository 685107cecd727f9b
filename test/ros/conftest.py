"""What the tests of the ROS side share."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # fake_engine.py and peer.py, under any of pytest's import modes

os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))
