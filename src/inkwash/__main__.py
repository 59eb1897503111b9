"""`python -m inkwash`, which launchers of several processes start."""

import sys

from inkwash.cli import main

sys.exit(main())
