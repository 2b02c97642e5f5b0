"""Print how many rows have their tests."""

from __future__ import annotations

import sys

from tests.security_rows import ROWS
from tests.security_rows.row import is_shown


def main() -> int:
    """Print how many rows of each section have their tests, and the rows that have not."""
    for section, rows in ROWS.items():
        sys.stdout.write(f"{sum(map(is_shown, rows)):3} of {len(rows):2}  {section}\n")
    every = [row for rows in ROWS.values() for row in rows]
    missing = [row for row in every if not is_shown(row)]
    sys.stdout.write(f"{len(every) - len(missing):3} of {len(every):2}  all\n")
    for row in missing:
        sys.stdout.write(f"without tests: {row.case}\n")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
