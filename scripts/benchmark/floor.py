"""The floor: a bare ACME client that makes the fewest round trips and verifies nothing.

It has no HTTP server in front, no policy, no store, no log and no retries. It keeps at most 16 connections to
the CA, as acmems does. No server can do better; how far one stays behind is what that server costs.

usage: python -m scripts.benchmark.floor DIRECTORY_URL CA_FILE HTTP_PORT   (jobs on standard input)
"""

from __future__ import annotations

import asyncio
import functools
import json
import ssl
import sys
import time
import urllib.parse
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Sequence
from typing import Any, NamedTuple

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from scripts.benchmark.jobs import Job, NamedCsr, Outcome, serve
from scripts.benchmark.wire import Connection, Reply, Responder, Shown

CONNECTIONS = 16
LOOK = 0.001
"""Seconds between looks at what the CA has not decided."""
ES256 = ec.ECDSA(hashes.SHA256())


def b64(content: bytes) -> str:
    """Return base64url without padding (RFC 7515 section 2)."""
    return urlsafe_b64encode(content).rstrip(b"=").decode()


def compact(value: object) -> bytes:
    """Return JSON without spaces."""
    return json.dumps(value, separators=(",", ":")).encode()


class Signer:
    """An account key that signs requests (RFC 8555 section 6.2).

    Attributes:
        thumbprint: of the key (RFC 7638).
        identity: who signs: the key, and from when it is known the account.
    """

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        numbers = self._key.public_key().public_numbers()
        x, y = (b64(number.to_bytes(32, "big")) for number in (numbers.x, numbers.y))
        jwk = {"crv": "P-256", "kty": "EC", "x": x, "y": y}
        digest = hashes.Hash(hashes.SHA256())
        digest.update(compact(jwk))
        self.thumbprint = b64(digest.finalize())
        self.identity: dict[str, Any] = {"jwk": jwk}

    def sign(self, url: str, nonce: str, payload: bytes) -> bytes:
        """Return a JWS."""
        header = b64(compact({"alg": "ES256", "nonce": nonce, "url": url, **self.identity}))
        content = b64(payload)
        r, s = decode_dss_signature(self._key.sign(f"{header}.{content}".encode(), ES256))
        signature = b64(r.to_bytes(32, "big") + s.to_bytes(32, "big"))
        return f'{{"protected":"{header}","payload":"{content}","signature":"{signature}"}}'.encode()


class Order(NamedTuple):
    """The URLs of an order and of its only authorization."""

    url: str
    authorization: str
    finalize: str


class Floor:
    """An account at a CA, and the shortest way from a CSR to a chain.

    Args:
        directory_url: the CA's directory.
        ca_file: what to check the CA's HTTPS with.
        http_port: where the CA fetches challenges.
    """

    def __init__(self, directory_url: str, ca_file: str, http_port: int) -> None:
        self._url = urllib.parse.urlsplit(directory_url)
        self._tls = ssl.create_default_context(cafile=ca_file)
        self._http_port = http_port
        self._signer = Signer()
        self._shown = Shown(self._signer.thumbprint)
        self._directory: dict[str, Any] = {}
        self._free: asyncio.LifoQueue[Connection] = asyncio.LifoQueue()

    async def open(self) -> None:
        """Listen for challenges, connect, and make an account."""
        responder = functools.partial(Responder, self._shown)
        loop = asyncio.get_running_loop()
        await loop.create_server(responder, "127.0.0.1", self._http_port, backlog=1024)
        for _ in range(CONNECTIONS):
            streams = await asyncio.open_connection(self._url.hostname, self._url.port, ssl=self._tls)
            connection = Connection(*streams)
            self._directory = (await connection.exchange(self._head("GET", self._url.path))).json()
            new_nonce = urllib.parse.urlsplit(self._directory["newNonce"]).path
            await connection.exchange(self._head("HEAD", new_nonce))
            self._free.put_nowait(connection)
        account = await self._post(self._directory["newAccount"], compact({"termsOfServiceAgreed": True}))
        self._signer.identity = {"kid": account.headers[b"location"].decode()}

    def _head(self, method: str, path: str, *fields: str) -> bytes:
        lines = (
            f"{method} {path} HTTP/1.1",
            f"Host: {self._url.netloc}",
            "User-Agent: floor",
            *fields,
            "",
            "",
        )
        return "\r\n".join(lines).encode()

    async def _post(self, url: str, payload: bytes = b"") -> Reply:
        connection = await self._free.get()
        body = self._signer.sign(url, connection.nonce, payload)
        length = f"Content-Length: {len(body)}"
        path = urllib.parse.urlsplit(url).path
        head = self._head("POST", path, "Content-Type: application/jose+json", length)
        reply = await connection.exchange(head + body)
        self._free.put_nowait(connection)
        return reply

    async def order(self, name: str) -> Order:
        """Order a certificate for one name."""
        identifiers = [{"type": "dns", "value": name}]
        reply = await self._post(self._directory["newOrder"], compact({"identifiers": identifiers}))
        order = reply.json()
        return Order(reply.headers[b"location"].decode(), order["authorizations"][0], order["finalize"])

    async def chain(self, order: Order, csr: str) -> bytes:
        """Prove the name of an order, and return the chain.

        Args:
            order: the order.
            csr: the CSR, as base64url of DER.
        """
        await self._prove(order.authorization)
        state = (await self._post(order.finalize, compact({"csr": csr}))).json()
        while state["status"] != "valid":
            await asyncio.sleep(LOOK)
            state = (await self._post(order.url)).json()
        return (await self._post(state["certificate"])).body

    async def _prove(self, url: str) -> None:
        authorization = (await self._post(url)).json()
        challenge = next(each for each in authorization["challenges"] if each["type"] == "http-01")
        fetched = self._shown.show(challenge["token"])
        await self._post(challenge["url"], b"{}")
        await fetched.wait()
        while authorization["status"] != "valid":
            await asyncio.sleep(LOOK)
            authorization = (await self._post(url)).json()

    async def sign(self, job: Job) -> Outcome:
        """Get a chain for each CSR of a job, in batches that are in flight at once."""
        each: list[float] = []
        failures = {}
        began = time.perf_counter()
        try:
            async with asyncio.timeout(job.seconds):
                for start in range(0, len(job.csrs), job.at_once):
                    await self._batch(job.csrs[start : start + job.at_once], each)
        except TimeoutError:
            failures = {"no answer in time": len(job.csrs) - len(each)}
        return Outcome(len(each), len(job.csrs), time.perf_counter() - began, each, failures=failures)

    async def _batch(self, csrs: Sequence[NamedCsr], each: list[float]) -> None:
        """Get chains at once, and note the seconds of each.

        All orders are placed before the first challenge is answered: Pebble can lock itself up where an
        order comes in while an authorization of another is worked on.
        """
        began = time.perf_counter()

        async def finish(order: Order, csr: str) -> None:
            await self.chain(order, csr)
            each.append(time.perf_counter() - began)

        orders = await asyncio.gather(*(self.order(csr.name) for csr in csrs))
        encoded = [b64(b64decode("".join(csr.pem.split("\n")[1:-2]))) for csr in csrs]
        await asyncio.gather(*map(finish, orders, encoded))


def main() -> None:
    """Open an account and do jobs."""
    directory_url, ca_file, http_port = sys.argv[1:]
    floor = Floor(directory_url, ca_file, int(http_port))
    with asyncio.Runner() as runner:
        runner.run(floor.open())
        serve(lambda job: runner.run(floor.sign(job)))


if __name__ == "__main__":
    main()
