"""What the demonstration shows: a certificate by each front end, and what to try next."""

from __future__ import annotations

import contextlib
import http.client
import sys
import time
from collections.abc import Sequence

from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from acmems.commands.demo.site import DemoSite, make_request
from acmems.commands.terminal import tell
from acmems.exceptions import ActFailed
from acmems.issuers.acme.issuer import AcmeIssuer
from acmems.issuers.acme.options import AccountOptions
from acmems.system import files
from acmems.system.clock import SYSTEM
from acmems.system.terminal import Colour, coloured, wants_colour
from acmems.x509.csr import CertificateRequest
from acmems.x509.identifiers import Identifier

_SECONDS = 30.0  # for which a step may take
_OF_SIGN, _OF_ACME, _REFUSED = ["host.internal", "printer"], ["web.internal"], ["www.example.com"]
_INVITATION = """
It serves until Ctrl-C. Try it from another terminal:

  cd {path}
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout my.key \\
    -subj / -addext subjectAltName=DNS:my.internal -out my.csr
  curl --data-binary @my.csr {sign_url}

  REQUESTS_CA_BUNDLE={root} certbot certonly --standalone --agree-tos \\
    --register-unsafely-without-email --server {directory_url} \\
    --config-dir certbot --work-dir certbot --logs-dir certbot -d my.internal

  acmems list acmems.ini
  acmems explain acmems.ini --address 127.0.0.1 --name my.internal
  acmems revoke acmems.ini web.internal
"""


def show(site: DemoSite) -> None:
    """Get a certificate by each front end, and be refused one.

    Raises:
        ActFailed: a step did not do what it should.
        AcmeException, OSError: a request was not answered.
    """
    _say("CA", f"made root and intermediate; what they permit stands in {site.config_file}")
    _say("server", f"ready at {site.sign_url} and {site.directory_url}")
    began = time.monotonic()
    status, body = _post(site, make_request(_OF_SIGN)[1])
    if status != http.client.OK:
        raise ActFailed(f"/sign answered {status}: {body.decode(errors='replace').strip()}")
    _check(site, body, _OF_SIGN)
    _say("/sign", f"took a CSR for {' and '.join(_OF_SIGN)}: the chain came back in {_since(began)}")
    began = time.monotonic()
    account, chain = _order(site, make_request(_OF_ACME)[1])
    _check(site, chain, _OF_ACME)
    _say("ACME", f"registered {account}, and ordered {_OF_ACME[0]}: the chain is here after {_since(began)}")
    status, body = _post(site, make_request(_REFUSED)[1])
    if status != http.client.FORBIDDEN:
        raise ActFailed(f"{_REFUSED[0]} was answered with {status}, and not refused")
    _say("policy", f"refused {_REFUSED[0]}: {status} {body.decode(errors='replace').strip()}")


def invite(site: DemoSite) -> None:
    """Say what to try."""
    tell(
        _INVITATION.format(
            path=site.path, sign_url=site.sign_url, root=site.root_file, directory_url=site.directory_url
        )
    )


def _post(site: DemoSite, request: CertificateRequest) -> tuple[int, bytes]:
    """Send a CSR to `/sign`, and return the status and the body of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", site.sign_port, timeout=_SECONDS)
    with contextlib.closing(connection):
        connection.request("POST", "/sign", request.pem)
        response = connection.getresponse()
        return response.status, response.read()


def _order(site: DemoSite, request: CertificateRequest) -> tuple[str, bytes]:
    """Register as an ACME client and order a certificate; return the account's URL and the chain."""
    home = site.path / "client"
    files.make_directory(home)
    options = AccountOptions(
        directory_url=site.directory_url,
        dir=home,
        accepted_terms=True,
        emails=(),
        key_type="ec256",
        ca_file=site.root_file,
        eab_kid=None,
        eab_hmac_key=None,
        profile=None,
    )
    with contextlib.closing(AcmeIssuer(options, _SECONDS)) as client:
        client.create_key()
        account = client.open()
        deadline = SYSTEM.deadline(_SECONDS)
        return account.url, client.run(client.obtain(request, (), deadline, request.key_digest)).pem


def _check(site: DemoSite, chain: bytes, names: Sequence[str]) -> None:
    """See that a chain is for some names, and leads to the root.

    Raises:
        ActFailed: it does not.
    """
    root = x509.load_pem_x509_certificate(site.root_file.read_bytes())
    leaf, *others = x509.load_pem_x509_certificates(chain)
    builder = PolicyBuilder().store(Store([root]))
    try:
        for name in names:
            builder.build_server_verifier(x509.DNSName(Identifier.dns(name).value)).verify(leaf, others)
    except VerificationError as error:
        raise ActFailed(f"the chain for {', '.join(names)} does not lead to the root: {error}") from error


def _say(who: str, what: str) -> None:
    label = f"{who:<8}"
    tell(f"{coloured(label, Colour.GREEN) if wants_colour(sys.stdout) else label} {what}")


def _since(began: float) -> str:
    return f"{(time.monotonic() - began) * 1000:.0f} ms"
