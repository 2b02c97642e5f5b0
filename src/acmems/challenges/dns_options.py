"""Keys that several verifications by DNS share: the label, waiting for propagation, the TSIG key."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import dns.name

from acmems.challenges.contract import Proof
from acmems.challenges.txt import TYPES, place_text, possible_records, read_place, record_of
from acmems.dns.client.aliases import AliasEnd, Aliases
from acmems.dns.client.propagation import MODES, Propagation
from acmems.dns.client.tsig import ALGORITHMS, TsigKey, dns_name, key_text, tsig_algorithm
from acmems.net.address import parse_address
from acmems.settings import values
from acmems.settings.options import Options

DNS_PORT = 53


def label_option(options: Options) -> str:
    """Read `label` of a section; return the type of challenge as the CA spells it."""
    label = options.one(
        "label",
        values.choice(*TYPES),
        "plain",
        meaning="`plain`: records are called `_acme-challenge.NAME` (dns-01); `account`: they begin with a "
        "label for the account (dns-account-01), so that several servers can have one name validated",
    )
    return TYPES[label]


def environment_option(options: Options) -> tuple[str, ...]:
    """Read `environment` of a section; return the names of variables."""
    return options.many(
        "environment",
        values.variable,
        meaning="name of an environment variable of acmems that is passed on, besides `PATH`, `LANG` and "
        "`HOME`",
    )


def propagation_from(options: Options) -> Propagation:
    """Read how a section waits until records are seen."""
    server = functools.partial(parse_address, default_port=DNS_PORT)
    mode = options.one(
        "propagation",
        values.choice(*MODES),
        "none",
        meaning="what must return the records before the CA is told to look: `authoritative`: all name "
        "servers of the zone; `recursive`: all `resolver`s, after the name servers; `none`: nothing",
    )
    resolvers = options.many(
        "resolver", server, meaning="resolver to query, `host` or `host:port`; default: those of the system"
    )
    nameservers = options.many(
        "nameserver",
        server,
        meaning="name server to query for CNAMEs and records, `host` or `host:port`, instead of those listed "
        "in the zone (split horizon)",
    )
    timeout = options.one(
        "propagation-timeout",
        values.seconds,
        60.0,
        meaning="seconds within which all of the records must be seen",
    )
    return Propagation(mode, resolvers, nameservers, timeout)


def aliases_from(
    options: Options, propagation: Propagation, zones: Sequence[dns.name.Name], *, strict: bool
) -> Aliases:
    """Read whether a section follows the CNAMEs of its records.

    Args:
        options: of the section.
        propagation: whose name servers and resolvers are asked.
        zones: those that may be changed; empty: not known.
        strict: whether a CNAME must then not lead out of the zone of its record.
    """
    follow = options.one(
        "follow-cnames",
        values.boolean,
        True,
        meaning="`yes`: if the name of a record is a CNAME, the record is added where that leads; `no`: at "
        "the name itself",
    )
    return Aliases(propagation.delegations, zones, follow=follow, strict=strict)


def locate(aliases: Aliases, proofs: Sequence[Proof], challenge_type: str) -> Mapping[Proof, str]:
    """Find where records belong that are about to be added; as `Locating.locate`.

    Args:
        aliases: finds them.
        proofs: what is going to be presented.
        challenge_type: `dns-01` or `dns-account-01`.
    """
    records = {proof: record_of(proof, challenge_type).pair for proof in proofs}
    ends = aliases.take(tuple(dict.fromkeys(records.values())))
    return {proof: place_text(ends[pair].name, ends[pair].zone) for proof, pair in records.items()}


def recall(aliases: Aliases, places: Mapping[Proof, str], challenge_type: str) -> None:
    """Take over where records were added; as `Recalling.recall`.

    Args:
        aliases: remembers it.
        places: the proofs, and what was noted of where they are.
        challenge_type: `dns-01` or `dns-account-01`.
    """
    ends = {}
    for record, proof in possible_records(places, challenge_type):
        place = read_place(places[proof])
        if place is not None:
            ends[record.pair] = AliasEnd(*place)
    aliases.restore(ends)


def longest_wait(propagation: Propagation) -> float:
    """Return the seconds that waiting until records are seen takes at most."""
    return 0.0 if propagation.mode == "none" else propagation.timeout


def tsig_key_from(options: Options) -> TsigKey | None:
    """Read the four keys about TSIG of a section; None where they are not given."""
    name = options.one(
        "tsig-name",
        dns_name,
        None,
        meaning="name of the TSIG key that signs updates; without it, updates are not signed",
    )
    text = options.one(
        "tsig-key",
        key_text,
        None,
        meaning="secret of the TSIG key, in base64, or `NAME:SECRET` or `ALGORITHM:NAME:SECRET`",
    )
    file = options.one(
        "tsig-key-file",
        values.path,
        None,
        meaning="file with the TSIG key instead: `key` statements, as written by BIND's `tsig-keygen`; "
        "BIND's `K*.private`; or only what `tsig-key` accepts",
    )
    algorithm = options.one(
        "tsig-algorithm",
        tsig_algorithm,
        None,
        meaning="algorithm of the TSIG key: "
        + ", ".join(f"`{word}`" for word in ALGORITHMS)
        + "; default: the one that comes with the key, otherwise `hmac-sha256`",
    )
    has_secret, has_file = options.has("tsig-key"), options.has("tsig-key-file")
    if has_secret and has_file:
        options.report("tsig-key and tsig-key-file exclude each other", "tsig-key-file")
    elif text is not None and text.name is None and not options.has("tsig-name"):
        options.report("tsig-key needs 'tsig-name = …'", "tsig-key")
    elif text is not None and None not in (name, text.name) and name != text.name:
        options.report("tsig-key has another name than tsig-name", "tsig-key")
    elif not has_secret and not has_file:
        for key in ("tsig-name", "tsig-algorithm"):
            if options.has(key):
                options.report(f"{key} needs 'tsig-key = …' or 'tsig-key-file = …'", key)
    if text is not None:
        return TsigKey(name or text.name, text.secret, file, algorithm or text.algorithm)
    return None if file is None else TsigKey(name, None, file, algorithm)
