"""The HTTP proxy on the way to a CA, where the environment names one."""

from __future__ import annotations

import re
import socket
import urllib.parse
import urllib.request
from base64 import b64encode
from dataclasses import dataclass

from acmems.issuers.acme.session.origin import Origin
from acmems.issuers.acme.session.sockets import receive, send
from acmems.system.clock import Deadline
from acmems.system.steps import Steps, Watched
from acmems.text import Secret, one_line

_LONGEST_TUNNEL_HEAD = 16 * 1024
_TUNNEL_OPENED = re.compile(rb"HTTP/1\.[01] 2[0-9][0-9][ \r]")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy on the way to the CA.

    Args:
        host: its name or address.
        port: its TCP port.
        credentials: what `Proxy-Authorization` says, None where it wants none.
    """

    host: str
    port: int
    credentials: Secret | None = None


def proxy_for(origin: Origin) -> Proxy | None:
    """Return the HTTP proxy that the environment names for a CA (https_proxy, no_proxy).

    Raises:
        ValueError: it names something else.
    """
    named = urllib.request.getproxies().get("https")
    if not named or origin.host in _LOOPBACK or urllib.request.proxy_bypass(origin.host):
        return None
    unusable = ValueError("https_proxy must be an http:// URL")
    try:
        url = urllib.parse.urlsplit(named if "://" in named else f"http://{named}")
        port = url.port or 80
    except ValueError:  # a broken address or port
        raise unusable from None
    if url.scheme != "http" or not url.hostname:
        raise unusable
    credentials = None
    if url.username is not None:
        user, password = urllib.parse.unquote(url.username), urllib.parse.unquote(url.password or "")
        credentials = Secret("Basic " + b64encode(f"{user}:{password}".encode()).decode("ascii"))
    return Proxy(url.hostname, port, credentials)


def open_tunnel(
    sock: socket.socket, watched: Watched, proxy: Proxy, origin: Origin, limit: Deadline
) -> Steps[None]:
    """Have a proxy connect to the CA (RFC 9110 section 9.3.6)."""
    place = f"[{origin.host}]:{origin.port}" if ":" in origin.host else f"{origin.host}:{origin.port}"
    lines = [f"CONNECT {place} HTTP/1.1", f"Host: {place}"]
    if proxy.credentials is not None:
        lines.append(f"Proxy-Authorization: {proxy.credentials.reveal()}")
    yield from send(sock, watched, "\r\n".join([*lines, "", ""]).encode("latin-1"), limit)
    head = b""
    # Byte by byte, so that nothing of what follows the head is taken.
    while not head.endswith(b"\r\n\r\n"):
        byte = yield from receive(sock, watched, limit, 1)
        head += byte
        if not byte or len(head) > _LONGEST_TUNNEL_HEAD:
            raise ConnectionError("the proxy did not answer a CONNECT")
    if not _TUNNEL_OPENED.match(head):
        status = one_line(head.split(b"\r\n")[0].decode("latin-1"), 80)
        raise ConnectionError(f"the proxy did not connect: {status}")
