"""Entry of `python -m exaone_ros.training`."""

from exaone_ros.training.cli import main

raise SystemExit(main())
