from exaone_ros.training.cli import main

raise SystemExit(main())
