"""What web servers of strangers do to http-01, attack by attack."""

from __future__ import annotations

import contextlib
import gzip
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from dns.name import Name
from tests.peers.ca import make_tls_certificate
from tests.strangers import HERE, Behaviour, ChangingDns, Names, Stranger, answer, says

from acmems.frontends.acme.problems import AcmeProblem
from acmems.frontends.acme.proving.connecting import Connector
from acmems.frontends.acme.proving.http.check import MOST_REDIRECTS, Http01Check
from acmems.frontends.acme.proving.http.url import HttpPorts
from acmems.frontends.acme.proving.lookups import Lookups
from acmems.frontends.acme.proving.reach import Reach
from acmems.frontends.acme.proving.validation import Validation
from acmems.net.address import Address, parse_network
from acmems.system.clock import SYSTEM
from acmems.x509.identifiers import Identifier, named

TOKEN = "t" * 43
KEY_AUTHORIZATION = f"{TOKEN}.{'k' * 43}"
PATH = f"/.well-known/acme-challenge/{TOKEN}"
MEGABYTE = 1024 * 1024
NAMES = {
    "metadata.example.org": ["169.254.169.254"],
    "metadata6.example.org": ["fd00:ec2::254"],
    "mapped.example.org": ["::ffff:169.254.169.254"],
    "loopback.example.org": ["127.0.0.1"],
    "nowhere.example.org": [],
    "mixed.example.org": ["127.0.0.1", "169.254.169.254", HERE],
}
GOOD = answer(KEY_AUTHORIZATION)


def redirect(location: str, status: str = "302 Found") -> Behaviour:
    return says(answer("", status=status, Location=location))


def endless(sock: socket.socket, _: bytes) -> None:
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (100 * MEGABYTE))
    for _each in range(100):
        sock.sendall(bytes(MEGABYTE))


def endless_chunks(sock: socket.socket, _: bytes) -> None:
    sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        sock.sendall(b"1;" + b"x" * 8000 + b"\r\na\r\n")


def endless_headers(sock: socket.socket, _: bytes) -> None:
    sock.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        sock.sendall(b"X-Header: " + b"x" * 1000 + b"\r\n")


def endless_interim(sock: socket.socket, _: bytes) -> None:
    while True:
        sock.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 50)


def drip(sock: socket.socket, _: bytes) -> None:
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 87\r\n\r\n")
    sock.settimeout(0.05)
    while True:
        sock.sendall(b"t")
        with contextlib.suppress(TimeoutError):
            if not sock.recv(1):
                return


def silent(sock: socket.socket, _: bytes) -> None:
    while sock.recv(4096):
        pass


def numbered(sock: socket.socket, head: bytes) -> None:
    number = int(head.partition(b" ")[2].partition(b" ")[0].rpartition(b"/")[2].replace(b"t", b"") or 0)
    redirect(f"/{number + 1}")(sock, head)


def reset(sock: socket.socket, _: bytes) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")


ATTACKS = {
    "100 MB": (endless, "incorrectResponse", "more than 4096 octets"),
    "chunks without end": (endless_chunks, "incorrectResponse", "too many small parts"),
    "headers without end": (endless_headers, "incorrectResponse", "too many headers"),
    "interim answers without end": (endless_interim, "incorrectResponse", "too many headers"),
    "an octet now and then": (drip, "connection", "takes too long"),
    "silence": (silent, "connection", "takes too long"),
    "an end before an answer": (says(""), "connection", "ends before an answer"),
    "a reset": (reset, "connection", "breaks the connection off"),
    "no HTTP": (says("SSH-2.0-OpenSSH_9.2\r\n\r\n"), "incorrectResponse", "no HTTP/1.1"),
    "an upgrade": (
        says("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nGET / HTTP/1.1"),
        "incorrectResponse",
        "no HTTP/1.1",
    ),
    "a gzip bomb": (
        says(
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 100000\r\n\r\n"
            + gzip.compress(bytes(100 * MEGABYTE), 1)[:3000]
        ),
        "incorrectResponse",
        "compressed, unasked",
    ),
    "another status": (
        says(answer(KEY_AUTHORIZATION, status="404 Not Found")),
        "incorrectResponse",
        "status 404",
    ),
    "another key authorization": (
        says(answer("x" * 87)),
        "incorrectResponse",
        "with 'xxxxxxxxxxxxxxxxxxxxxxxx'...",
    ),
    "the right one and more": (
        says(answer(KEY_AUTHORIZATION + "x")),
        "incorrectResponse",
        "not with the key",
    ),
    "nothing": (says(answer("")), "incorrectResponse", "but with nothing"),
    "control characters": (says(answer("\x1b[2J\r\nX: y\x00é")), "incorrectResponse", "with '[2J X: y ?'"),
    "a circle": (redirect(PATH), "connection", "in a circle"),
    "redirects without end": (numbered, "connection", f"more than {MOST_REDIRECTS} times"),
    "a redirect to nowhere": (
        says(answer("", status="301 Moved")),
        "incorrectResponse",
        "without saying where",
    ),
    "to 169.254.169.254": (
        redirect("http://169.254.169.254/latest/meta-data/"),
        "unauthorized",
        "an IP address",
    ),
    "to its IPv6 form": (redirect("http://[::ffff:a9fe:a9fe]/"), "unauthorized", "no host name"),
    "to its decimal form": (redirect("http://2852039166/"), "unauthorized", "no host name"),
    "to a name of it": (redirect("http://metadata.example.org/"), "unauthorized", "169.254.169.254"),
    "to a name of it by IPv6": (
        redirect("http://metadata6.example.org/"),
        "unauthorized",
        "a metadata service",
    ),
    "to a name of it, mapped": (redirect("http://mapped.example.org/"), "unauthorized", "link-local"),
    "to loopback": (redirect("http://loopback.example.org/metrics"), "unauthorized", "loopback"),
    "to localhost": (redirect("http://localhost/"), "unauthorized", "loopback"),
    "to a name without address": (redirect("http://nowhere.example.org/"), "dns", "no A or AAAA"),
    "to another port": (redirect("http://b.example.org:22/"), "unauthorized", "another port"),
    "to port 0": (redirect("http://b.example.org:0/"), "unauthorized", "another port"),
    "to a port that is none": (redirect("http://b.example.org:99999/"), "unauthorized", "no URL"),
    "to a file": (redirect("file:///etc/passwd"), "unauthorized", "another scheme"),
    "to gopher": (redirect("gopher://b.example.org:70/_x"), "unauthorized", "another scheme"),
    "to JavaScript": (redirect("javascript:alert(1)"), "unauthorized", "another scheme"),
    "to a user": (redirect("http://b.example.org@c.example.org/"), "unauthorized", "names a user"),
    "with a backslash": (redirect("http://b.example.org\\@c.example.org/"), "unauthorized", "no URL"),
    "with a blank": (redirect("/a HTTP/1.1"), "unauthorized", "no URL"),
    "with a tab": (redirect("http://b.exa\tmple.org/"), "unauthorized", "no URL"),
    "with 8-bit characters": (redirect("/\xe9"), "unauthorized", "no URL"),
    "with a long path": (redirect("/" + "a" * 2000), "unauthorized", "reasonable length"),
    "with a broken host": (redirect("http://[::1/"), "unauthorized", "no URL"),
    "to a wildcard": (redirect("http://*.example.org/"), "unauthorized", "no host name"),
}


@contextlib.contextmanager
def checked(behaviour: Behaviour, names: Lookups | None = None, within: float = 30.0) -> Iterator[Stranger]:
    """Run one validation of a.example.org against a stranger."""
    with Stranger(behaviour) as web:
        names = names or Names(NAMES | {"localhost": ["127.0.0.1"]})
        check = Http01Check(Connector(names, Reach((parse_network(HERE),))), HttpPorts(web.port, 1))
        validation = Validation("http-01", named("a.example.org"), TOKEN, KEY_AUTHORIZATION, "account")
        yield web
        check.check(validation, SYSTEM.deadline(within))


@pytest.mark.threat("proving inside", "redirects", "answers of 100 MB, or without end")
@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_ends_in_a_failure_that_says_what_was_seen(attack: str) -> None:
    """Each is refused within bounds, and the client is told why."""
    behaviour, kind, words = ATTACKS[attack]
    within = 2.0 if words == "takes too long" else 30.0
    with pytest.raises(AcmeProblem) as caught, checked(behaviour, within=within):
        pass
    assert words in caught.value.reason
    assert caught.value.kind == kind
    assert len(caught.value.reason) < 400
    assert caught.value.reason.isprintable()


@pytest.mark.threat("proving inside", "answers of 100 MB, or without end")
def test_of_100_mb_only_the_beginning_is_read() -> None:
    """The connection is cut off: the server gets rid of what fits into the buffers of two sockets."""
    sent: list[int] = []

    def counted(sock: socket.socket, _: bytes) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (100 * MEGABYTE))
        for _each in range(100):
            sock.sendall(bytes(MEGABYTE))
            sent.append(MEGABYTE)

    with pytest.raises(AcmeProblem), checked(counted):
        pass
    assert sum(sent) < 50 * MEGABYTE


@pytest.mark.threat("proving inside", "reading what only this server can fetch")
def test_what_a_redirect_leads_to_is_not_read_to_the_client() -> None:
    """Otherwise a redirect by a stranger would show what only this server can fetch."""

    def leads_inside(sock: socket.socket, head: bytes) -> None:
        inside = b"Host: inside.example.org" in head
        (says(answer("the secret")) if inside else redirect("http://inside.example.org/secret"))(sock, head)

    with pytest.raises(AcmeProblem) as caught, checked(leads_inside):
        pass
    assert "secret" not in caught.value.reason


@pytest.mark.threat("proving inside", "a name that leads elsewhere each time")
def test_a_name_that_answers_otherwise_each_time_is_connected_to_as_it_was_judged() -> None:
    """A name is looked up once for each connection, so that DNS rebinding leads nowhere."""
    answers = {"a.example.org": [HERE, "127.0.0.1"], "b.example.org": ["169.254.169.254", HERE]}

    def rebinding(name: Name, kind: str) -> list[str]:
        text = name.to_text(omit_final_dot=True)
        place = server.asked.count((text, "A")) - 1
        return [f"{text} 0 A {answers[text][place % 2]}"] if kind == "A" else []

    with ChangingDns(rebinding) as server:
        names = Lookups((Address("127.0.0.1", server.port),))
        with checked(says(GOOD), names):
            pass
        assert server.asked == [("a.example.org", "AAAA"), ("a.example.org", "A")]
        server.asked.clear()
        with (
            pytest.raises(AcmeProblem, match=r"169\.254\.169\.254"),
            checked(redirect("http://b.example.org/"), names),
        ):
            pass


def test_addresses_that_are_refused_are_left_out_and_the_others_tried() -> None:
    """One good address is enough."""
    names = Names({"a.example.org": NAMES["mixed.example.org"]})
    with checked(says(GOOD), names):
        pass


@pytest.mark.threat("proving inside", "names that lead to metadata, loopback or this server")
def test_the_server_does_not_validate_at_itself() -> None:
    """It would answer its own questions, or show its own pages, even where loopback is allowed."""
    with Stranger(says(GOOD)) as web:
        connector = Connector(Names(), Reach((parse_network(HERE),)), own_ports=lambda: {web.port})
        check = Http01Check(connector, HttpPorts(web.port))
        validation = Validation("http-01", named("a.example.org"), TOKEN, KEY_AUTHORIZATION)
        with pytest.raises(AcmeProblem, match="listens there itself") as caught:
            check.check(validation, SYSTEM.deadline(30))
    assert caught.value.kind == "unauthorized"
    assert web.heads == []


@pytest.mark.parametrize(
    "good",
    [
        GOOD,
        answer(f"{KEY_AUTHORIZATION}\r\n \t"),
        f"HTTP/1.0 200 OK\r\n\r\n{KEY_AUTHORIZATION}\n",
        f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n57\r\n{KEY_AUTHORIZATION}\r\n0\r\n\r\n",
        f"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n{GOOD}",
        answer(KEY_AUTHORIZATION, Content_Encoding="identity", Content_Type="text/html"),
    ],
    ids=["plain", "blanks after it", "HTTP/1.0", "chunks", "after an interim answer", "headers"],
)
def test_the_key_authorization_is_found_in_each_form_of_an_answer(good: str) -> None:
    """HTTP says it in several ways, and blanks at its end do not matter (RFC 8555 section 8.3)."""
    with checked(says(good)) as web:
        pass
    head = web.heads[0].split("\r\n")
    assert head[0] == f"GET {PATH} HTTP/1.1"
    assert "Host: a.example.org" in head
    assert "Accept-Encoding: identity" in head


def test_redirects_to_other_names_and_paths_are_followed() -> None:
    """Where a challenge is answered elsewhere, the redirect leads there, its port written or not."""

    def leads(sock: socket.socket, head: bytes) -> None:
        line, port = head.split(b"\r\n")[0], sock.getsockname()[1]
        steps = {
            f"GET {PATH} HTTP/1.1".encode(): redirect("//b.example.org/x?y=1#z", "308 Permanent Redirect"),
            b"GET /x?y=1 HTTP/1.1": redirect(f"http://c.example.org:{port}", "307 Temporary Redirect"),
            b"GET / HTTP/1.1": says(GOOD),
        }
        steps[line](sock, head)

    names = Names()
    with checked(leads, names) as web:
        pass
    assert names.asked == ["a.example.org", "b.example.org", "c.example.org"]
    assert f"Host: c.example.org:{web.port}\r\n" in web.heads[2]


def test_an_address_is_proved_at_itself_and_may_redirect_to_itself() -> None:
    """The Host is the address (RFC 8738 section 4), and no DNS is asked."""

    def leads(sock: socket.socket, head: bytes) -> None:
        (says(GOOD) if head.startswith(b"GET /x ") else redirect(f"http://{HERE}/x"))(sock, head)

    names = Names(default=())
    with Stranger(leads) as web:
        check = Http01Check(Connector(names, Reach((parse_network(HERE),))), HttpPorts(web.port))
        validation = Validation("http-01", Identifier.ip(HERE), TOKEN, KEY_AUTHORIZATION)
        check.check(validation, SYSTEM.deadline(30))
    assert all(f"Host: {HERE}\r\n" in head for head in web.heads)
    assert names.asked == []


def test_https_is_followed_without_a_valid_certificate(tmp_path: Path) -> None:
    """Whoever proves a name has no certificate yet; and where there is no TLS, that is said."""
    make_tls_certificate(tmp_path / "cert.pem", tmp_path / "key.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")

    def secured(sock: socket.socket) -> socket.socket:
        return context.wrap_socket(sock, server_side=True)

    validation = Validation("http-01", named("a.example.org"), TOKEN, KEY_AUTHORIZATION)

    def plain(sock: socket.socket) -> socket.socket:
        sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        return sock

    with (
        Stranger(redirect("https://a.example.org/x")) as web,
        Stranger(says(GOOD), secured) as tls,
        Stranger(says(GOOD), plain) as no_tls,
    ):
        connector = Connector(Names(), Reach((parse_network(HERE),)))
        Http01Check(connector, HttpPorts(web.port, tls.port)).check(validation, SYSTEM.deadline(30))
        assert tls.heads[0].startswith("GET /x ")
        with pytest.raises(AcmeProblem, match="there is no TLS") as caught:
            Http01Check(connector, HttpPorts(web.port, no_tls.port)).check(validation, SYSTEM.deadline(30))
    assert caught.value.kind == "tls"


def test_a_connection_that_is_refused_is_told() -> None:
    """With the address that was tried, so that the client finds its mistake."""
    with socket.create_server((HERE, 0)) as taken:
        port = taken.getsockname()[1]
    check = Http01Check(Connector(Names(), Reach((parse_network(HERE),))), HttpPorts(port))
    validation = Validation("http-01", named("a.example.org"), TOKEN, KEY_AUTHORIZATION)
    with pytest.raises(AcmeProblem, match=rf"{HERE}:{port} refuses") as caught:
        check.check(validation, SYSTEM.deadline(30))
    assert caught.value.kind == "connection"
