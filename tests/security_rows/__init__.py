"""What may go wrong, what must happen then, and the tests that show it: `python -m tests.security_rows`."""

from __future__ import annotations

from collections.abc import Mapping

from tests.security_rows import from_behind, from_clients, from_proving
from tests.security_rows.row import Row

ROWS: Mapping[str, tuple[Row, ...]] = {**from_clients.ROWS, **from_behind.ROWS, **from_proving.ROWS}
