"""The configuration: INI files become typed, checked objects, and nothing outside is touched."""

from acmems.config.configuration import Configuration
from acmems.frontends.metrics.options import MetricsOptions
from acmems.frontends.options import MgmtOptions
from acmems.issuers.acme.options import AccountOptions
from acmems.logs.options import LoggingOptions

__all__ = ["AccountOptions", "Configuration", "LoggingOptions", "MetricsOptions", "MgmtOptions"]
