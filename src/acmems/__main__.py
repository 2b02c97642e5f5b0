"""Run acmems as `python -m acmems`."""

import sys

from acmems.commands.main import main

sys.exit(main())
