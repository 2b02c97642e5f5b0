"""Run acmems, as `acmems` or `python -m acmems`."""

import signal
import sys

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # Whoever interrupts it before it works, or when it has worked, is shown no traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from acmems.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
