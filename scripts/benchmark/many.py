"""The figure of many chains in the state: look-ups, start and memory of a real server, beside few of them."""

from __future__ import annotations

import datetime
import hashlib
import http.client
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from scripts.benchmark.rows import Measured, Row, at_most
from scripts.benchmark.usage import MEGABYTE
from tests.peers import Acmems, PeerFailed, free_port

from acmems.issuers.acme.account import Account, AccountDirectory
from acmems.issuers.acme.key import AccountKey
from acmems.state.chains import ChainRecord, ChainRecords
from acmems.state.engines.sqlite import SqliteDatabase
from acmems.storages import IssuerIdentity, identity_digest
from acmems.x509 import chain
from acmems.x509.identifiers import Identifier

FEW = 1000
LOOK_UPS = 500
BATCH = 1000
# Nobody is there: what is stored is delivered all the same.
ISSUER = IssuerIdentity("https://ca.example.org/directory")
KEY, CA_KEY = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
CA_NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a CA")])
TEXT = """
[account]
acme-server = {directory}
dir = {folder}
accept-terms-of-service = yes
[mgmt]
listener = 127.0.0.1:{port}
[verification "web"]
type = http01
listener =
[storage "state"]
type = sql
[auth "all"]
all = yes
domain = **
"""


def many(count: int) -> Measured:
    """Measure a server with so many chains in its state, in turns with one that has few.

    Args:
        count: how many chains.
    """
    with tempfile.TemporaryDirectory(prefix="acmems-bench-") as name:
        folders = {each: Path(name) / str(each) for each in (FEW, count)}
        for each, folder in folders.items():
            _fill(folder, each)
        os.sync()  # what was written here is not what the server waits for
        seconds: dict[int, list[float]] = {each: [] for each in folders}
        starts, peaks = [], []
        for _ in range(3):
            for each, folder in folders.items():
                start, found, peak = _serve(folder, each)
                seconds[each] += found
                if each == count:
                    starts.append(start)
                    peaks.append(peak)
    medians = {each: statistics.median(found) * 1000 for each, found in seconds.items()}
    what = f"{count:,} chains in the state"
    return Measured(
        [
            Row(
                f"{what}: first look-up, median",
                "ms",
                medians[count],
                f"{FEW:,} chains",
                medians[FEW],
                at_most(2.0),
            ),
            Row(f"{what}: start to ready, median", "s", statistics.median(starts), target=at_most(2.0)),
            Row(f"{what}: peak memory", "MB", max(peaks), target=at_most(150.0)),
        ]
    )


def _serve(folder: Path, count: int) -> tuple[float, list[float], float]:
    """Run a server; return the seconds of its start and of look-ups, and its peak memory."""
    port = free_port()
    server = Acmems(TEXT.format(directory=ISSUER.directory, folder=folder, port=port))
    began = time.monotonic()
    with server:
        start = time.monotonic() - began
        wanted = Random().sample(range(count), LOOK_UPS)  # noqa: S311 - any of them
        found = list(_look_ups(port, [_request(number) for number in wanted]))
        return start, found, server.peak_memory / MEGABYTE


def _look_ups(port: int, requests: Sequence[bytes]) -> Iterator[float]:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    for request in requests:
        began = time.monotonic()
        connection.request("POST", "/sign", request)
        response = connection.getresponse()
        response.read()
        yield time.monotonic() - began
        if response.status != 200:
            raise PeerFailed(f"a stored chain was answered {response.status}")
    connection.close()


def _fill(folder: Path, count: int) -> None:
    """Make the directory of an account, with a state that has so many chains."""
    folder.mkdir(mode=0o700)
    directory = AccountDirectory(folder)
    directory.save_key(AccountKey.generate("ec256"))
    directory.save_registration(Account("https://ca.example.org/account/1"))
    database = SqliteDatabase.open(folder / "state.sqlite")
    records = ChainRecords(database)
    made = map(_record, range(count))
    while batch := list(itertools.islice(made, BATCH)):
        records.adopt(batch).result()
    database.close()


def _record(number: int) -> ChainRecord:
    spki = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    names = (Identifier.dns(_name(number)),)
    now = datetime.datetime.now(datetime.UTC)
    return ChainRecord.of(
        chain.parse_once(_certificate(_san(number), x509.Name([]), KEY) + INTERMEDIATE),
        identity=identity_digest(ISSUER, hashlib.sha256(spki).hexdigest(), False, names),
        directory=ISSUER.directory,
        profile=None,
        issued=now,
        block="all",
        storage="state",
        csr=_request(number),
    )


def _certificate(
    san: x509.SubjectAlternativeName | None, subject: x509.Name, key: ec.EllipticCurvePrivateKey
) -> bytes:
    start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
    builder = x509.CertificateBuilder(
        CA_NAME,
        subject,
        key.public_key(),
        x509.random_serial_number(),
        start,
        start + datetime.timedelta(days=90),
    )
    if san is not None:
        builder = builder.add_extension(san, critical=False)
    return builder.sign(CA_KEY, hashes.SHA256()).public_bytes(Encoding.PEM)


def _request(number: int) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    signed = builder.add_extension(_san(number), critical=False).sign(KEY, hashes.SHA256())
    return signed.public_bytes(Encoding.PEM)


def _san(number: int) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([x509.DNSName(_name(number))])


def _name(number: int) -> str:
    return f"host-{number}.example.org"


INTERMEDIATE = _certificate(None, CA_NAME, CA_KEY)
