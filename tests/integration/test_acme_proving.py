"""ACME clients that prove names to acmems before a CA outside is asked, with a real DNS and a real CA."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dns.query
import dns.update
import pytest
from tests.acme_client import Answer, thumbprint
from tests.acme_front_end import AcmeFrontEnd
from tests.acme_orders import Orderer, make_csr
from tests.peers import Acmems, Pebble, Settings, curl_sign, make_key_and_csr, verify_chain, wait_until
from tests.peers.acme_clients import Directory
from tests.peers.acme_clients.uacme import Uacme
from tests.peers.dns import Bind

from acmems.challenges.txt import txt_value

BLOCK = """
[auth "inside"]
all = yes
domain = **
prove = http-01, dns-01
"""


class Site:
    """A server inside whose clients prove names, and the DNS there."""

    def __init__(self, front_end: AcmeFrontEnd, bind: Bind, settings: Settings) -> None:
        self.front_end = front_end
        self.bind = bind
        self.settings = settings

    def add_text(self, name: str, text: str) -> None:
        """Add a TXT record."""
        update = dns.update.UpdateMessage("example.org")
        update.add(f"{name}.", 60, "TXT", text)
        dns.query.tcp(update, "127.0.0.1", timeout=30, port=self.bind.port)


@pytest.fixture(scope="module")
def site(pebble: Pebble, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server whose resolver is BIND, where all names are at 127.0.0.1."""
    folder = tmp_path_factory.mktemp("proving")
    settings = Settings.of(pebble, folder)
    settings.auth = BLOCK
    with Bind("example.org") as bind:
        front_end = AcmeFrontEnd(folder, settings)
        settings.auth += f"resolver = 127.0.0.1:{bind.port}\n"
        with Acmems(settings):
            yield Site(front_end, bind, settings)


def challenge(client: Orderer, url: str, kind: str) -> dict[str, Any]:
    """Return the challenge of a type in an authorization."""
    found = [each for each in client.post(url).json["challenges"] if each["type"] == kind]
    assert len(found) == 1
    return dict(found[0])


def ended(look: Callable[[], Answer], is_over: Callable[[str], bool]) -> Answer:
    """Return what is to be seen once its status says that it is over."""
    seen: list[Answer] = []

    def over() -> bool:
        seen.append(look())
        return is_over(seen[-1].json["status"])

    wait_until(over, "it is over")
    return seen[-1]


def test_names_are_proved_inside_and_then_outside(site: Site, pebble: Pebble) -> None:
    """Authorizations are pending until their records are there; then the order is as any other."""
    names = ("a.example.org", "b.example.org")
    with site.front_end.client() as client:
        assert client.register().status == 201
        order = client.order(*names)
        assert order.json["status"] == "pending"
        assert client.finalize(order.json, make_csr(*names)).problem == "orderNotReady"
        for name, url in zip(names, order.json["authorizations"], strict=True):
            wanted = challenge(client, url, "dns-01")
            assert wanted["status"] == "pending"
            site.add_text(f"_acme-challenge.{name}", txt_value(f"{wanted['token']}.{thumbprint(client.key)}"))
            assert client.post(wanted["url"], {}).status == 200
            ended(lambda url=url: client.post(url), lambda status: status == "valid")  # type: ignore[misc]  # a default
        assert client.post(order.location).json["status"] == "ready"
        client.finalize(order.json, make_csr(*names))
        done = ended(lambda: client.post(order.location), lambda status: status == "valid")
        verify_chain(client.post(done.json["certificate"]).body, pebble.root_pem())


@pytest.mark.parametrize(
    ("name", "kind", "problem", "words"),
    [
        ("none.example.org", "dns-01", "dns", "no TXT records at _acme-challenge.none.example.org"),
        ("wrong.example.org", "dns-01", "incorrectResponse", "none of the 1 TXT records"),
        ("www.example.org", "http-01", "unauthorized", "does not connect to 127.0.0.1"),
        ("www.example.com", "http-01", "dns", "www.example.com"),
    ],
)
def test_a_name_that_is_not_proved_ends_its_order(
    site: Site, name: str, kind: str, problem: str, words: str
) -> None:
    """With what was seen, in challenge and order; no CA is asked."""
    site.add_text("_acme-challenge.wrong.example.org", "wrong")
    with site.front_end.client() as client:
        assert client.register().status == 201
        order = client.order(name)
        wanted = challenge(client, order.json["authorizations"][0], kind)
        assert client.post(wanted["url"], {}).status == 200
        failed = ended(lambda: client.post(wanted["url"]), lambda status: status == "invalid").json["error"]
        assert failed["type"].endswith(f":{problem}")
        assert words in failed["detail"]
        assert client.post(order.location).json["status"] == "invalid"


def test_a_wildcard_is_refused_that_the_ca_outside_could_not_validate(site: Site) -> None:
    """Although it could be proved inside, by dns-01."""
    with site.front_end.client() as client:
        assert client.register().status == 201
        refused = client.order("*.example.org")
        assert refused.problem == "rejectedIdentifier"


def test_sign_does_not_use_a_block_that_wants_a_proof(site: Site, tmp_path: Path) -> None:
    """Whoever posts a CSR has proved nothing."""
    _, csr = make_key_and_csr(tmp_path, ["a.example.org"])
    assert curl_sign(f"http://127.0.0.1:{site.settings.port}/sign", csr).status == 403


HOOK = """#!{python}
import sys
import dns.query, dns.update
method, kind, name, token, proof = sys.argv[1:]
if kind != "dns-01":
    sys.exit(1)
update = dns.update.UpdateMessage("example.org")
if method == "begin":
    update.add(f"_acme-challenge.{{name}}.", 60, "TXT", proof)
else:
    update.delete(f"_acme-challenge.{{name}}.", "TXT", proof)
dns.query.tcp(update, "127.0.0.1", timeout=30, port={port})
"""


class ProvingUacme(Uacme):
    """uacme, with a hook that proves by dns-01 and by nothing else."""

    hook = ""

    def program(self, name: str, text: str) -> Path:
        return super().program(name, self.hook if name == "prove" else text)


def test_a_client_of_others_proves_a_name(site: Site, pebble: Pebble, tmp_path: Path) -> None:
    """Uacme chooses dns-01 among what is offered, and its hook writes the record."""
    client = ProvingUacme(tmp_path, Directory(f"{site.front_end.url}/directory", site.front_end.chain))
    client.hook = HOOK.format(python=sys.executable, port=site.bind.port)
    client.register(None)
    verify_chain(client.order("c.example.org", "d.example.org"), pebble.root_pem())
    assert site.bind.texts("_acme-challenge.c.example.org") == set()
