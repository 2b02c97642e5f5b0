"""ACME clients that prove names to a server by http-01 and tls-alpn-01, at the ports that the RFCs say."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.acme_front_end import AcmeFrontEnd
from tests.peers import Acmems, Bind, Nginx, Pebble, PeerFailed, Settings, names_of, verify_chain
from tests.peers.acme_clients import CLIENTS, Directory, ForeignClient, Listening
from tests.peers.acme_clients.certbot import Certbot
from tests.peers.acme_clients.lego import Lego
from tests.peers.ca import make_tls_certificate
from tests.peers.network import add_address

HTTP, TLS = "http-01", "tls-alpn-01"
PROVERS = [(kind, challenge) for challenge in (HTTP, TLS) for kind in CLIENTS if challenge in kind.listens]
FAILING, NOBODY, OTHERS = "10.20.1.1", "10.20.1.2", "10.20.1.3"
BLOCK = """
[auth "{challenge}"]
ip = 127.0.0.1
domain = **.{challenge}.example.org
prove = {challenge}
"""
SITE = f"""
    server {{{{
        listen {OTHERS}:80;
        location / {{{{ return 200 "something else"; }}}}
    }}}}
    server {{{{
        listen {OTHERS}:443 ssl;
        ssl_certificate {{folder}}/site.pem;
        ssl_certificate_key {{folder}}/site.key;
    }}}}
"""
Prover = tuple[type[ForeignClient], str]


def name_for(prover: Prover) -> str:
    """Return the name that a client proves."""
    kind, challenge = prover
    return f"{kind.name.replace('.', '-')}.{challenge}.example.org"


ADDRESSES = {
    **{name_for(prover): f"10.20.0.{number}" for number, prover in enumerate(PROVERS, 1)},
    **{f"nobody.{challenge}.example.org": NOBODY for challenge in (HTTP, TLS)},
    **{f"others.{challenge}.example.org": OTHERS for challenge in (HTTP, TLS)},
}
"""Where each name leads, so that all clients can have port 80 or 443 at the same time."""


@pytest.fixture(scope="module")
def directory(pebble: Pebble, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Directory]:
    """A server that has names proved, with a CA outside; BIND tells it where they are."""
    for address in {FAILING, *ADDRESSES.values()}:
        add_address(address)
    folder = tmp_path_factory.mktemp("acmems")
    make_tls_certificate(folder / "site.pem", folder / "site.key")
    settings = Settings.of(pebble, folder)
    settings.auth = "".join(BLOCK.format(challenge=challenge) for challenge in (HTTP, TLS))
    records = "\n".join(f"{name}. A {address}" for name, address in ADDRESSES.items())
    with Bind("example.org", records=f"{records}\n") as bind:
        front_end = AcmeFrontEnd(folder, settings)
        settings.auth += f"resolver = {bind.address}\n"
        with Acmems(settings), Nginx(80, sites=SITE.format(folder=folder), address=OTHERS):
            yield Directory(f"{front_end.url}/directory", front_end.chain)


def listening(prover: Prover, folder: Path, told: Directory, address: str) -> ForeignClient:
    """Return a client with an account that proves names by a challenge."""
    kind, challenge = prover
    client = kind(folder, told)
    client.listening = Listening(challenge, address)
    client.register(None)
    return client


@pytest.fixture(scope="module")
def chains(
    directory: Directory, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[Prover, Future[bytes]]]:
    """What the clients get, all at once, since some of them sleep for most of the time."""

    def obtain(prover: Prover) -> bytes:
        name = name_for(prover)
        folder = tmp_path_factory.mktemp(name, numbered=False)
        return listening(prover, folder, directory, ADDRESSES[name]).order(name)

    with ThreadPoolExecutor(len(PROVERS)) as threads:
        yield {prover: threads.submit(obtain, prover) for prover in PROVERS}


@pytest.mark.parametrize(
    "prover", [pytest.param(prover, id=f"{prover[0].name} by {prover[1]}") for prover in PROVERS]
)
def test_a_client_gets_what_it_has_proved(
    prover: Prover, chains: dict[Prover, Future[bytes]], pebble: Pebble
) -> None:
    """By itself, at port 80 or 443 of the name."""
    chain = chains[prover].result()
    assert names_of(chain) == {name_for(prover)}
    verify_chain(chain, pebble.root_pem())


@pytest.mark.parametrize(
    ("prover", "name", "told"),
    [
        ((Lego, HTTP), "nobody", f"acme:error:connection .* {NOBODY}:80 refuses the connection"),
        ((Lego, TLS), "nobody", f"acme:error:connection .* {NOBODY}:443 refuses the connection"),
        ((Lego, HTTP), "others", r"acme:error:incorrectResponse .* 'something else'"),
        ((Lego, TLS), "others", r"acme:error:tls .* alert no application protocol"),
        ((Certbot, HTTP), "others", r"'something else'"),
    ],
    ids=["lego 80", "lego 443", "lego other page", "lego other TLS", "certbot other page"],
)
def test_a_client_tells_why_its_proof_was_not_seen(
    prover: Prover, name: str, told: str, directory: Directory, tmp_path: Path
) -> None:
    """Where nobody listens, and where somebody else does who shows something else; it can tidy up, too."""
    client = listening(prover, tmp_path, directory, FAILING)
    with pytest.raises(PeerFailed, match=told) as caught:
        client.order(f"{name}.{prover[1]}.example.org")
    assert "Unable to deactivate" not in str(caught.value)
