"""Every chain that was issued: which one is current, its history, and who asked for it.

- `record`: a chain and what is known of it, as a value
- `recent`: chains that were delivered lately, in memory
- `alternates`: further chains of the same certificates
- `deliveries`: how often chains were delivered, in sums
- `putting`: how they are written
- `records`: all of them together
- `revocations`: which are revoked
- `renewals`: when each is to be renewed
"""

from __future__ import annotations

from acmems.state.chains.record import ChainRecord
from acmems.state.chains.records import ChainRecords

__all__ = ["ChainRecord", "ChainRecords"]
