"""What `scripts/demo` shows, one line a step. It exits with 1 if a step fails, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.peers import (
    Acmems,
    ChallTestSrv,
    Pebble,
    PeerFailed,
    Settings,
    curl_sign,
    make_key_and_csr,
    names_of,
    verify_chain,
)

SECRET = "a secret that server and client share"  # noqa: S105 - of a server that lives for seconds
NAME = "www.example.org"
AUTH = f"""
[auth "web servers"]
ip = 127.0.0.1
hmac_type = sha256
hmac_key = {SECRET}
domain = *.example.org
"""
COLOUR = sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def main() -> int:
    """Run the demonstration and return its exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        with tempfile.TemporaryDirectory(prefix="acmems-demo-") as folder:
            show(Path(folder))
    except (PeerFailed, AssertionError) as error:
        print(f"{paint('31', 'failed')}  {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{paint('31', 'stopped')}", file=sys.stderr)
        return 1
    say("done", "nothing is left running, nothing is left on disk")
    return 0


def show(folder: Path) -> None:
    """Show everything.

    Raises:
        PeerFailed, AssertionError: a step did not do what it should.
    """
    with ChallTestSrv() as dns, Pebble(dns.address) as ca:
        say("CA", f"Pebble, an ACME CA for tests, serves {ca.directory_url}")
        settings = Settings.of(ca, folder)
        settings.auth = AUTH
        with Acmems(settings.text().replace("level = debug", "level = info")) as acmems:
            say("server", f"acmems serve, ready on {acmems.sign_url}")
            key, csr = make_key_and_csr(folder, [NAME])
            say("openssl", f"made {key.name}, which stays here, and {csr.name}, which asks for {NAME}")
            began = time.monotonic()
            reply = curl_sign(acmems.sign_url, csr, secret=SECRET)
            check(reply.status == 200, f"/sign answered {reply.status}: {reply.text.strip()}")
            check(names_of(reply.body) == {NAME}, "the certificate is for other names")
            certificates = reply.body.count(b"BEGIN CERTIFICATE")
            say("curl", f"sent it with its HMAC: {certificates} certificates came back in {since(began)}")
            verified = verify_chain(reply.body, ca.root_pem())
            check(verified.endswith("OK"), verified)
            say("openssl", f"verified the chain against the CA's root: {verified.split()[-1]}")
            began = time.monotonic()
            again = curl_sign(acmems.sign_url, csr, secret=SECRET)
            check(again.body == reply.body, "asking again brought another chain")
            say("curl", f"asked again: the stored chain came back in {since(began)}, the CA was not asked")
            refused = curl_sign(acmems.sign_url, csr, secret="a guess")  # noqa: S106 - a wrong one
            check(refused.status == 403, f"a wrong secret was answered with {refused.status}")
            say("curl", f"asked with a wrong secret: {refused.status} {refused.text.strip()}")


def check(good: bool, otherwise: str) -> None:
    """Go on only if all is good.

    Raises:
        AssertionError: it is not.
    """
    if not good:
        raise AssertionError(otherwise)


def say(who: str, what: str) -> None:
    """Print one step."""
    print(f"{paint('32', f'{who:<8}')} {what}", flush=True)


def paint(colour: str, text: str) -> str:
    """Return a text in a colour, at a terminal."""
    return f"\x1b[{colour}m{text}\x1b[0m" if COLOUR else text


def since(began: float) -> str:
    """Return how long something took, for a person."""
    return f"{(time.monotonic() - began) * 1000:.0f} ms"


if __name__ == "__main__":
    sys.exit(main())
