"""Whether the certificate of the server's own can be shown."""

from __future__ import annotations

from collections.abc import Iterator

from acmems.config import Configuration
from acmems.frontends.tls.files import UnusableTls, context_of, read_material
from acmems.settings.findings import Finding
from acmems.system.clock import SYSTEM


def check(config: Configuration) -> Iterator[Finding]:
    """Yield what is wrong with the files, and, as a warning, that a certificate is not valid."""
    now = SYSTEM.now()
    for section, options in config.tls.items():
        if options.name is not None and not (options.certificate and options.certificate.exists()):
            continue  # the server makes it
        try:
            material = read_material(options)
            context_of(options, material)
        except UnusableTls as error:
            yield Finding(config.where(section, None, error.key), str(error))
            continue
        words = None
        if now > material.not_after:
            words = f"the certificate has expired at {material.not_after.isoformat()}: put a new one there"
        elif now < material.not_before:
            words = f"the certificate is valid only from {material.not_before.isoformat()} on: see the clock"
        if words is not None:
            where = config.where(section, None, "tls-certificate")
            yield Finding(where, f"tls-certificate: {options.certificate}: {words}", warning=True)
