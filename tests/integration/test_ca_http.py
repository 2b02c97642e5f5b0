"""A CA whose HTTP is not as RFC 8555 draws it, but harmless: certificates come all the same."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fault_proxy import FaultProxy
from tests.faults import (
    AUTHORIZATION,
    CHALLENGE,
    DIRECTORY,
    FINALIZE,
    NEW_ACCOUNT,
    NEW_NONCE,
    NEW_ORDER,
    Reply,
)
from tests.peers import Acmems, Pebble, Settings, curl_sign, make_key_and_csr


@pytest.fixture
def proxy(pebble: Pebble) -> Iterator[FaultProxy]:
    """A proxy before the CA that breaks what a test tells it to break."""
    with FaultProxy(pebble) as running:
        yield running


@pytest.fixture
def csr(tmp_path: Path) -> Path:
    """A signing request for one name."""
    return make_key_and_csr(tmp_path, ["fault.example.org"])[1]


def make_relative(reply: Reply) -> None:
    """Leave host and port out of every URL in an answer."""
    reply.body = re.sub(rb'"https://127\.0\.0\.1:[0-9]+/', b'"/', reply.body)
    reply.headers = {
        name: re.sub("https://127\\.0\\.0\\.1:[0-9]+/", "/", value) if name.lower() == "location" else value
        for name, value in reply.headers.items()
    }


def test_relative_urls(proxy: FaultProxy, settings: Settings, csr: Path) -> None:
    """Accounts, orders, authorizations, challenges and chains are found by relative URLs, too."""
    proxy.when()._change(make_relative)
    with Acmems(proxy.before(settings)) as acmems:
        assert curl_sign(acmems.sign_url, csr).status == 200


def test_a_directory_that_has_moved_and_a_new_nonce_without_head(
    proxy: FaultProxy, settings: Settings, csr: Path
) -> None:
    """A redirect of the directory is followed, and nonces are asked for by GET where HEAD is refused."""
    proxy.when(path=DIRECTORY).redirect("/dir?moved", 301)
    proxy.when(method="HEAD", path=NEW_NONCE).answer(405)
    with Acmems(proxy.before(settings)) as acmems:
        assert curl_sign(acmems.sign_url, csr).status == 200
    assert proxy.count(method="HEAD", path=NEW_NONCE) == 1


def test_a_ca_on_another_host(proxy: FaultProxy, settings: Settings, csr: Path) -> None:
    """A CA that is not where its directory is works once `acme-host` names the place, as the log says."""
    here = proxy.directory_url.removesuffix("/dir")
    there = here.replace("127.0.0.1", "localhost")
    key = f"acme-host = {there.removeprefix('https://')}"
    before = proxy.before(settings)
    before.directory_url = f"{there}/dir"
    with Acmems(before):
        assert proxy.count(path=NEW_ACCOUNT) == 2  # it looks for the account, then registers it
    before.directory_url = proxy.directory_url
    proxy.when(path=DIRECTORY)._change(
        lambda reply: setattr(reply, "body", reply.body.replace(here.encode(), there.encode()))
    )
    with Acmems(before) as acmems:
        assert curl_sign(acmems.sign_url, csr).status >= 500
        assert key in acmems.log
    assert proxy.count(path=NEW_ORDER) == 0
    before.account = key
    with Acmems(before) as acmems:
        assert curl_sign(acmems.sign_url, csr).status == 200
    assert proxy.count(path=NEW_ORDER) == 1


@pytest.mark.threat("ca", "Retry-After")
@pytest.mark.parametrize("path", [NEW_ORDER, AUTHORIZATION, CHALLENGE, FINALIZE])
def test_a_short_rate_limit_midway(proxy: FaultProxy, settings: Settings, csr: Path, path: str) -> None:
    """A 429 with a second or two costs an order that time, and nothing else."""
    proxy.when(path=path, nth=1).problem(429, "rateLimited", "slowly", Retry_After="1")
    with Acmems(proxy.before(settings)) as acmems:
        assert curl_sign(acmems.sign_url, csr).status == 200
    assert proxy.count(path=NEW_ORDER) == (2 if path == NEW_ORDER else 1)
