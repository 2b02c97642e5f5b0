"""A name server for one zone that is delegated to acmems, and for nothing else."""

from acmems.dns.server.answer import MOST_UDP, answer
from acmems.dns.server.service import name_server_plan
from acmems.dns.server.zone import NameServer, OtherTexts, TxtTable, Zone

__all__ = ["MOST_UDP", "NameServer", "OtherTexts", "TxtTable", "Zone", "answer", "name_server_plan"]
