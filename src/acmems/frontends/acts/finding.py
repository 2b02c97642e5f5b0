"""Which certificate is meant by a name."""

from __future__ import annotations

from acmems.exceptions import ActFailed
from acmems.frontends.acts.contract import ActingParts
from acmems.state.chains import ChainRecord
from acmems.text import one_line


def find_current(parts: ActingParts, wanted: str, verb: str, *, of_history: bool = False) -> ChainRecord:
    """Return the certificate that a person means.

    Args:
        parts: know the certificates.
        wanted: a name, a serial number, or a fingerprint.
        verb: what is to be done with it, for words.
        of_history: whether one that has been replaced may be meant by its number.

    Raises:
        ActFailed: there is none, or there are several.
        StateUnavailable: they cannot be read.
    """
    parts.chains.check().result()  # what has just been issued is written by then
    now = parts.clock.now()
    found = [each for each in parts.chains.find(wanted) if each.not_after >= now]
    current = [each for each in found if each.superseded is None]
    if of_history and not current:
        current = [each for each in found if wanted not in each.names]
    if not current:
        late = (
            "; what another process has issued is known after half a minute" if parts.chains.is_shared else ""
        )
        raise ActFailed(
            f"there is no certificate to {verb} for {one_line(wanted, 300)!r}: 'acmems list --all' shows all"
            f"{late}"
        )
    if len(current) > 1:
        listed = "; ".join(f"{each.serial} for {', '.join(each.names)}" for each in current[:10])
        raise ActFailed(
            f"several certificates have {one_line(wanted, 300)!r}, give the serial number of one: "
            f"{one_line(listed, 2000)}"
        )
    return current[0]
