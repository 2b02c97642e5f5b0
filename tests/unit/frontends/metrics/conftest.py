"""What tests of metrics share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.monitoring import Stand


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    """A server with two auth blocks that share a storage."""
    made = Stand(tmp_path)
    yield made
    made.stub.loop.close()
