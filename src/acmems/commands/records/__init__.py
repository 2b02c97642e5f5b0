"""What must stand in DNS for the certificates of a configuration, and whether it does."""

from __future__ import annotations

from acmems.commands.records.forecast import NameForecast, caa_lines, forecasts, is_hopeless
from acmems.commands.records.lookup import examine, is_complete
from acmems.commands.records.printing import table, zone_file

__all__ = [
    "NameForecast",
    "caa_lines",
    "examine",
    "forecasts",
    "is_complete",
    "is_hopeless",
    "table",
    "zone_file",
]
