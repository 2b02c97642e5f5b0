"""A name server for one zone that is delegated to acmems, and for nothing else."""

from acmems.nameserver.answer import MOST_UDP, answer
from acmems.nameserver.service import NameService
from acmems.nameserver.zone import NameServer, Zone

__all__ = ["MOST_UDP", "NameServer", "NameService", "Zone", "answer"]
