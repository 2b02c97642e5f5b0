"""acmems in the place of Pebble, for suites that start a `pebble` by themselves.

usage: python -m tests.pebble_stand_in -config FILE -dnsserver HOST:PORT -strict -socket DESCRIPTOR

The file is Pebble's; the descriptor is that of a socket which listens at its `listenAddress`. What the file
names as ports of http-01 and tls-alpn-01 gets what comes to ports 80 and 443, which must be free. It may say
where acmems itself listens (`acmeListenAddress`), and the `url` that all of its URLs begin with. The CA
outside is Pebble, with the same profiles. It ends when whoever started it has ended.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import signal
import socket
import ssl
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.peers import Acmems, Pebble, Settings, free_port
from tests.peers.ca import fetch
from tests.peers.forwarders import NginxStream

PR_SET_PDEATHSIG = 1
ACME = """
[auth "anyone"]
all = yes
domain = **
address = 0.0.0.0/0
prove = http-01, dns-01, tls-alpn-01

[acme]
listener = {address}
url = {base}
tls-certificate = {certificate}
tls-key = {privatekey}
resolver = {resolver}
prove-at = 127.0.0.0/8
"""
EXTERNAL = """
[auth "{kid}"]
eab-kid = {kid}
eab-hmac-key = {key}
domain = **
prove = http-01, dns-01, tls-alpn-01
"""
FORWARDING = "server {{ listen {port}; proxy_pass 127.0.0.1:{target}; }}"


class Front(ThreadingHTTPServer):
    """Answers where Pebble would, when all else serves.

    Args:
        listener: where it listens.
        context: its TLS.
    """

    daemon_threads = True

    def __init__(self, listener: socket.socket, context: ssl.SSLContext) -> None:
        super().__init__(listener.getsockname(), _Answer, bind_and_activate=False)
        self.socket.close()
        self.socket = context.wrap_socket(listener, server_side=True, do_handshake_on_connect=False)
        self.is_ready = threading.Event()
        self.pages: Mapping[str, bytes] = {}


class _Answer(BaseHTTPRequestHandler):
    server: Front

    def do_GET(self) -> None:
        """Show the directory, or the root that chains end at."""
        self.server.is_ready.wait()
        body = self.server.pages.get(self.path, b"")
        self.send_response(200 if body else 404)
        self.send_header("Content-Type", "application/json" if self.path == "/dir" else "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextlib.contextmanager
def fronts(options: Mapping[str, Any], listener: socket.socket) -> Iterator[list[Front]]:
    """Answer for the directory, and at the address of the management."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(options["certificate"], options["privatekey"])
    host, _, port = options["managementlistenaddress"].rpartition(":")
    made = [Front(each, context) for each in (listener, socket.create_server((host, int(port))))]
    for each in made:
        threading.Thread(target=each.serve_forever, daemon=True).start()
    yield made


def forwarding(options: Mapping[str, Any]) -> str:
    """Return what nginx has to do to be where suites would be looked for; port 0 is of no use to them."""
    targets = {80: options["httpport"], 443: options["tlsport"]}
    servers = (FORWARDING.format(port=port, target=target) for port, target in targets.items() if target)
    return f"stream {{ {' '.join(servers)} }}"


def serve(options: Mapping[str, Any], resolver: str, listener: socket.socket) -> None:
    """Serve until a signal comes."""
    profiles = {
        name: {key.lower(): value for key, value in profile.items()}
        for name, profile in options["profiles"].items()
    }
    outside = Pebble(resolver, options={"profiles": profiles})
    with fronts(options, listener) as made, tempfile.TemporaryDirectory() as folder, outside:
        settings = Settings.of(outside, Path(folder))
        settings.account = f"profile = {next(iter(profiles))}"
        address = options.get("acmelistenaddress", f"127.0.0.1:{free_port()}")
        base = options.get("url", f"https://{address}")
        settings.auth = "".join(
            EXTERNAL.format(kid=kid, key=key)
            for kid, key in options.get("externalaccountmackeys", {}).items()
        ) + ACME.format(address=address, base=base, resolver=resolver, **options)
        with Acmems(settings) as acmems, NginxStream(80, forwarding(options)):
            directory = fetch(f"https://{address}/directory", Path(options["certificate"]))
            for each in made:
                each.pages = {"/dir": directory, "/roots/0": outside.root_pem().encode()}
                each.is_ready.set()
            with contextlib.suppress(SystemExit):
                signal.pause()
            sys.stdout.write(acmems.log)  # which suites show


def main() -> None:
    """Serve as the arguments say."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("-config", type=Path)
    parser.add_argument("-dnsserver")
    parser.add_argument("-socket", type=int)
    parser.add_argument("-strict", action="store_true")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    options = json.loads(arguments.config.read_text(encoding="utf-8"))
    [pebble] = options.values()
    serve(
        {key.lower(): value for key, value in pebble.items()},
        arguments.dnsserver,
        socket.socket(fileno=arguments.socket),
    )


if __name__ == "__main__":
    main()
