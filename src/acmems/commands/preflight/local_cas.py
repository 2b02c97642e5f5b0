"""What can be told of local CAs before a start."""

from __future__ import annotations

from collections.abc import Iterator

from acmems.config import Configuration
from acmems.exceptions import LocalCaUnusable
from acmems.issuers.local.files import LocalCaDirectory
from acmems.issuers.local.profiles import ENDS_SOON
from acmems.settings.findings import Finding
from acmems.system.clock import SYSTEM, Clock


def check(config: Configuration, clock: Clock = SYSTEM) -> Iterator[Finding]:
    """Yield what keeps local CAs from issuing, and what soon will.

    Args:
        config: describes them.
        clock: for dates.
    """
    for name, local_ca in config.local_cas.items():
        try:
            authority = LocalCaDirectory(local_ca.dir).load()
        except LocalCaUnusable as error:
            yield Finding(config.where("local-ca", name, "dir"), str(error))
            continue
        if not authority.permits.holds(local_ca.permits):
            yield Finding(
                config.where("local-ca", name, "permit"),
                f"{local_ca.section} permits more than its certificates do, which were made for "
                f"{authority.permits}: what these do not permit is not issued; only a new CA could, in "
                f"another 'dir'",
                warning=True,
            )
        end = authority.certificate.not_valid_after_utc
        if end - clock.now() < ENDS_SOON:
            yield Finding(
                config.where("local-ca", name, "dir"),
                f"the intermediate certificate of {local_ca.section} ends at {end:%Y-%m-%d}, and no "
                f"certificate is valid for longer: move it and its key away, and run 'acmems ca init'",
                warning=True,
            )
