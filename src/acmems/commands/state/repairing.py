"""What can be put right in a state: by what it holds itself, and by what the CA has."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from acmems.config import Configuration
from acmems.exceptions import AcmeException, PayloadInvalid
from acmems.issuers.acme.downloads import downloaded
from acmems.issuers.acme.issuer import AcmeIssuer
from acmems.issuers.acme.options import AccountOptions
from acmems.state.chains import ChainRecord, ChainRecords
from acmems.state.engines.copying import salvage
from acmems.state.examination import Examination, examine, restored
from acmems.state.opening import open_state
from acmems.x509 import csr
from acmems.x509.identifiers import Identifier


def repair(config: Configuration, examination: Examination) -> list[str]:
    """Put right what can be, and return what was done and what could not be, one line each.

    Args:
        config: the configuration.
        examination: what is wrong.

    Raises:
        StateInUse: a server uses the state.
        StateUnavailable: nothing can be read of it, or it cannot be written.
    """
    lines = []
    place = config.state.place(config.home)
    if examination.faults and isinstance(place, Path):
        saved = salvage(place)
        rows = ", ".join(f"{number} {table}" for table, number in saved.rows.items() if number)
        lines.append(
            f"what could be read is in a new file: {rows or 'nothing'}; the old one is {saved.aside}"
        )
    database = open_state(config.state, config.home)
    with contextlib.closing(database):
        records = ChainRecords(database)
        missing = []
        for damaged in examine(database).damaged:
            if damaged.record is not None:
                try:
                    records.mend(restored(damaged.record, damaged.record.pem)).result()
                except ValueError:
                    missing.append(damaged.record)
                else:
                    lines.append(f"chain {damaged.key} is as its certificate says again")
        at = {account.directory_url: account for account in reversed([*config.accounts.values()])}
        for directory, account in at.items():
            theirs = [record for record in missing if record.directory == directory]
            lines += _download(account, config.mgmt.request_timeout, records, theirs)
    return lines


def _download(
    account: AccountOptions, timeout: float, records: ChainRecords, missing: Sequence[ChainRecord]
) -> list[str]:
    """Get chains from their CA again, as far as it is known by which orders they came."""
    lines = []
    known = [(record, record.order_url) for record in missing if record.order_url is not None]
    if not known:
        return []
    issuer = AcmeIssuer(account, timeout)
    try:
        issuer.open(register=False)
        for record, order_url in known:
            steps = downloaded(
                issuer.client.session,
                order_url,
                _identifiers(record),
                account.preferred_chain,
                issuer.clock.deadline(timeout),
            )
            try:
                records.mend(restored(record, issuer.run(steps))).result()
            except (AcmeException, ValueError) as error:
                lines.append(f"chain {record.fingerprint} cannot be had from the CA again: {error}")
            else:
                lines.append(f"chain {record.fingerprint} was downloaded from the CA again")
    except AcmeException as error:
        lines.append(f"chains cannot be had from the CA again: {error}")
    finally:
        issuer.close()
    return lines


def _identifiers(record: ChainRecord) -> tuple[Identifier, ...]:
    """Return what was ordered: the names of the request, or of the certificate where there is none."""
    if record.csr is not None:
        with contextlib.suppress(PayloadInvalid):
            return csr.parse(record.csr, csr.LENIENT).identifiers
    return tuple(sorted(map(_identifier, record.names)))


def _identifier(name: str) -> Identifier:
    try:
        return Identifier.ip(name)
    except ValueError:
        return Identifier.dns(name)
