"""What `scripts/fuzz` throws bytes at: each target raises only where something is wrong with acmems.

A target is a function of bytes. Its seeds are what it should accept, for the fuzzer to begin with.
"""

from __future__ import annotations

import ipaddress
import itertools
import re
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import dns.edns
import dns.message
from cryptography.hazmat.primitives.asymmetric import ec
from tests import der
from tests.der import Draft
from tests.peers import Settings, make_key_and_csr
from tests.property import test_answer_properties as nameserver_properties
from tests.property import test_csr_properties as csr_properties
from tests.property import test_envelope_properties as envelope_properties
from tests.property import test_framing_properties as framing_properties
from tests.property import test_hmac_properties as hmac_properties
from tests.property import test_identifiers_properties as names_properties
from tests.property import test_proving_properties as proving_properties
from tests.property import test_tls_alpn_properties as tls_alpn_properties

from acmems.config import Configuration
from acmems.dns.server import MOST_UDP, answer
from acmems.dns.server.answer import truncated
from acmems.exceptions import ConfigurationError
from acmems.net.tlsalpn.hello import Hello
from acmems.x509 import formats
from acmems.x509.identifiers import Glob, Identifier

# Known, so that a fuzzer can go on tomorrow with the requests that it found today.
KEY = ec.derive_private_key(0x5EED, ec.SECP256R1())


@dataclass(frozen=True)
class Target:
    """Something that strangers send bytes to."""

    check: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]


def check_csr(data: bytes) -> None:
    """See that a body is refused, or read with the names that cryptography and openssl read, if they read it.

    What is no PEM is taken for the inside of a request and signed: a fuzzer would not hit a signature.
    """
    body = data if b"-----BEGIN " in data else der.pem(Draft(key=KEY).signed(data))
    request = csr_properties.check(body)
    formats.recognise(body)
    if request is not None:
        assert csr_properties.names_by_cryptography(request.der) in (None, set(request.names))
        assert _names_by_openssl(request.der) in (None, set(request.names))


def _names_by_openssl(encoded: bytes) -> set[str] | None:
    command = [
        "openssl",
        "req",
        "-inform",
        "DER",
        "-noout",
        "-verify",
        "-nameopt",
        "sep_multiline,sname,utf8,esc_ctrl,esc_2253",
    ]
    ran = [
        subprocess.run([*command, what], input=encoded, capture_output=True, check=False)
        for what in ("-subject", "-text")
    ]
    if any(each.returncode for each in ran):
        return None
    subject, text = (each.stdout.decode(errors="replace") for each in ran)
    # Multiple values of one relative name stand on one line, with a plus between; others are escaped.
    found = set(re.findall(r"(?:^\s*| \+ )CN=((?:\\.|[^+\\\n])*?)(?= \+ |$)", subject, re.MULTILINE)) - {""}
    names = re.search(r"Subject Alternative Name:.*\n\s*(.*)\n", text)
    for name in names[1].split(", ") if names else ():
        kind, _, value = name.partition(":")
        assert kind in {"DNS", "IP Address"}
        found.add(value if kind == "DNS" else str(ipaddress.ip_address(value)))
    return {name.lower() for name in found}


def csr_seeds() -> list[bytes]:
    """Return requests as openssl makes them, and the insides of others."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = [
            make_key_and_csr(folder, ["a.example.org", "*.b.example.org"], kind=kind, cn=cn, stem=kind)[1]
            for kind, cn in (("ec", None), ("ec384", "c.example.org"), ("rsa", "A.Example.ORG"))
        ]
        bodies = [path.read_bytes() for path in made]
    rich = Draft(csr_properties.RICH.subject, attributes=csr_properties.RICH.attributes, key=KEY)
    return [*bodies, Draft(key=KEY).info, rich.info, Draft(der.subject(b"a.b", b"c.d"), (), key=KEY).info]


def check_names(data: bytes) -> None:
    """See that a text is a name, an address, a glob, or refused with a reason that is safe to print."""
    first, _, second = data.decode(errors="replace").partition(" ")
    identifiers = [names_properties.parsed(parse, first) for parse in (Identifier.dns, Identifier.ip)]
    glob = names_properties.parsed(Glob.parse, second or first)
    for identifier in filter(None, identifiers):
        again = Identifier.dns if identifier is identifiers[0] else Identifier.ip
        assert again(identifier.value) == identifier
        assert glob is None or glob.matches(identifier) in {True, False}


def check_ini(data: bytes) -> None:
    """See that a text is a configuration, or refused line by line."""
    try:
        Configuration.from_text(data.decode(errors="replace"), "a.ini")
    except ConfigurationError as error:
        if not all(line.startswith("a.ini:") for line in str(error).split("\n")):
            raise AssertionError("a finding is more than a line") from error


def ini_seeds() -> list[bytes]:
    """Return a configuration that works."""
    with tempfile.TemporaryDirectory() as name:
        settings = Settings(
            folder=Path(name),
            directory_url="https://a.example.org/dir",
            ca_file=Path("ca.pem"),
            challenge_port=1,
        )
        return [settings.text().encode()]


def check_framing(data: bytes) -> None:
    """See that bytes are requests or refusals, and that cutting them changes nothing."""
    whole = framing_properties.outcome([data])
    half = len(data) // 2
    assert framing_properties.outcome([data[:half], data[half:]]) == whole
    if data:
        assert framing_properties.outcome([data[at : at + 1] for at in range(len(data))]) == whole


def check_hmac(data: bytes) -> None:
    """See that only what is documented is a claim."""
    text = data.decode(errors="replace")
    assert hmac_properties.read(text) == (hmac_properties.claimed(text) if text.isascii() else None)


def check_nameserver(data: bytes) -> None:
    """See that a datagram brings silence, or a small answer to it that is none to answer again.

    Over TCP the same holds, but for the size.
    """
    zone = nameserver_properties.ZONE
    short, long, cut = answer(data, zone), answer(data, zone, stream=True), truncated(data)
    assert (short is None) == (long is None)
    for reply in filter(None, (short, long, cut)):
        assert reply[:2] == data[:2]
        assert reply[2] & 0x80
        assert answer(reply, zone) is None
        assert truncated(reply) is None
    assert len(short or b"") <= MOST_UDP
    assert len(cut or b"") <= len(data)


def nameserver_seeds() -> list[bytes]:
    """Return queries as resolvers send them: with EDNS and without, for what is there and what is not."""
    origin = nameserver_properties.ORIGIN.to_text()
    asked = [(f"www.{origin}", "TXT"), (f"wWw.{origin}", "ANY"), (f"mail.{origin}", "A"), (origin, "SOA")]
    queries = [dns.message.make_query(name, kind, use_edns=False).to_wire() for name, kind in asked]
    cookie: list[dns.edns.Option] = [dns.edns.GenericOption(dns.edns.OptionType.COOKIE, b"12345678")]
    return [
        *queries,
        nameserver_properties.QUERY,
        dns.message.make_query(
            f"www.{origin}", "TXT", use_edns=0, options=cookie, want_dnssec=True
        ).to_wire(),
        dns.message.make_query(origin, "AXFR").to_wire(),
    ]


def check_clienthello(data: bytes) -> None:
    """See that bytes are a ClientHello, the beginning of one, or refused, and that it stays so.

    What comes in records behind a ClientHello is left to OpenSSL.
    """
    whole, half = (tls_alpn_properties.outcome(part) for part in (data, data[: len(data) // 2]))
    if half is not None:
        assert whole == half or isinstance(whole, str)
    if isinstance(half, str):
        assert isinstance(whole, str)
    if isinstance(whole, str):
        assert whole.isprintable()
    if isinstance(whole, Hello):
        assert whole.server_name.isascii()
        assert whole.server_name == whole.server_name.lower()


TARGETS: Mapping[str, Target] = {
    "csr": Target(check_csr, csr_seeds),
    "names": Target(
        check_names,
        lambda: [b"a.example.org *.example.org", b"xn--bcher-kva.example **.example", b"192.0.2.1", b"::1"],
    ),
    "ini": Target(check_ini, ini_seeds),
    "framing": Target(check_framing, lambda: list(framing_properties.GOOD)),
    "hmac": Target(
        check_hmac,
        lambda: [
            f"hmac {pair}".encode()
            for digest in ("ab" * 32,)
            for pair in itertools.chain(
                (f"name=sha256{separator}hash={digest}" for separator in (", ", ",", " ")),
                (f"hash={digest} name=sha2-256",),
            )
        ],
    ),
    "nameserver": Target(check_nameserver, nameserver_seeds),
    "webanswer": Target(proving_properties.check_answer, lambda: list(proving_properties.GOOD_ANSWERS)),
    "clienthello": Target(check_clienthello, lambda: list(tls_alpn_properties.GOOD)),
    "envelope": Target(envelope_properties.check, lambda: list(envelope_properties.GOOD)),
}
