"""A name server for one zone that is delegated to acmems, and for nothing else."""

from acmems.dns.server.answer import MOST_UDP, answer
from acmems.dns.server.service import name_server
from acmems.dns.server.zone import NameServer, Zone

__all__ = ["MOST_UDP", "NameServer", "Zone", "answer", "name_server"]
