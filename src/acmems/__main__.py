"""Run acmems as `python -m acmems`."""

import sys

from acmems.cli import main

sys.exit(main())
