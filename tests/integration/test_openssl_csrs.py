"""Signing requests as the real openssl makes them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from acmems.auth import MAX_SIZE
from acmems.exceptions import PayloadInvalid
from acmems.x509 import csr

NAMES = [f"n{number:03}.example.org" for number in range(100)]

# What Debian's openssl.cnf asks for, with answers given: attributes and v3_req extensions included.
DEFAULTS = """
[req]
distinguished_name = subject
attributes = attributes
req_extensions = v3_req
string_mask = utf8only
prompt = no
[subject]
countryName = AU
stateOrProvinceName = Some-State
organizationName = Internet Widgits Pty Ltd
commonName = a.example.org
[attributes]
challengePassword = secret
unstructuredName = An optional company name
[v3_req]
basicConstraints = CA:FALSE
keyUsage = nonRepudiation, digitalSignature, keyEncipherment
"""


def openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=60)


@pytest.fixture(scope="module", params=["rsa:2048", "ec:prime256v1", "ec:secp384r1"])
def key(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A private key of each type that machines commonly have."""
    kind, _, size = str(request.param).partition(":")
    path = tmp_path_factory.mktemp("key") / "key.pem"
    option = f"rsa_keygen_bits:{size}" if kind == "rsa" else f"ec_paramgen_curve:{size}"
    openssl("genpkey", "-algorithm", kind, "-pkeyopt", option, "-out", path)
    return path


def made(key: Path, *arguments: str | Path) -> bytes:
    """Make a request with this key."""
    path = key.with_name("request.csr")
    openssl("req", "-new", "-key", key, "-out", path, *arguments)
    return path.read_bytes()


@pytest.mark.threat("csr", "a SAN and no common name")
@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        pytest.param(["-subj", "/CN=a.example.org"], ["a.example.org"], id="CN only"),
        pytest.param(
            ["-subj", "/", "-addext", "subjectAltName=DNS:a.example.org"], ["a.example.org"], id="SAN only"
        ),
        pytest.param(
            ["-subj", "/C=DE/O=Verein/CN=A.example.org", "-addext", "subjectAltName=DNS:b.example.org"],
            ["a.example.org", "b.example.org"],
            id="CN not in the SAN",
        ),
        pytest.param(
            ["-subj", "/", "-addext", "subjectAltName=DNS:*.example.org,DNS:example.org,IP:192.0.2.1,IP:::1"],
            ["*.example.org", "example.org", "192.0.2.1", "::1"],
            id="wildcard and IP addresses",
        ),
        pytest.param(
            ["-subj", "/", "-addext", "subjectAltName=" + ",".join(f"DNS:{name}" for name in NAMES)],
            NAMES,
            id="a hundred names",
        ),
        pytest.param(
            [
                *("-subj", "/CN=a.example.org", "-sha512", "-newhdr"),
                *("-addext", "subjectAltName=DNS:a.example.org"),
                *("-addext", "keyUsage=critical,digitalSignature,keyEncipherment"),
                *("-addext", "extendedKeyUsage=serverAuth,clientAuth"),
                *("-addext", "basicConstraints=critical,CA:FALSE"),
                *("-addext", "subjectKeyIdentifier=hash"),
            ],
            ["a.example.org"],
            id="every usual extension, SHA-512, older label",
        ),
        pytest.param(["-subj", "/CN=a.example.org", "-text"], ["a.example.org"], id="with its text"),
        pytest.param(
            ["-subj", "/", "-addext", "subjectAltName=DNS:xn--ls8h.example.org"],
            ["xn--ls8h.example.org"],
            id="emoji",
        ),
        pytest.param(
            ["-subj", "/O=A & B/O=A & B/CN=", "-addext", "subjectAltName=DNS:a.example.org"],
            ["a.example.org"],
            id="empty CN, organization twice",
        ),
    ],
)
def test_accepted(key: Path, arguments: list[str], names: list[str]) -> None:
    """What `openssl req` makes for names that can be certified is accepted, whole."""
    assert list(csr.parse(made(key, *arguments)).names) == names


def test_debian_defaults(key: Path) -> None:
    """A request made with the attributes and extensions of the default configuration is accepted."""
    path = key.with_name("openssl.cnf")
    path.write_text(DEFAULTS)
    assert csr.parse(made(key, "-config", path)).names == ("a.example.org",)


def test_pss(tmp_path: Path) -> None:
    """A request that openssl signs with RSA-PSS is refused by name, and by the option that made it."""
    openssl("genpkey", "-algorithm", "rsa", "-out", tmp_path / "key.pem")
    for arguments in (["-sigopt", "rsa_padding_mode:pss"], ["-sigopt", "rsa_padding_mode:pss", "-sha512"]):
        body = made(tmp_path / "key.pem", "-subj", "/CN=a.example.org", *arguments)
        with pytest.raises(PayloadInvalid, match=r"1\.2\.840\.113549\.1\.1\.10 .* without rsa_padding_mode"):
            csr.parse(body)


def test_a_key_for_pss_only(tmp_path: Path) -> None:
    """A key that is for RSA-PSS only is refused by name, too."""
    openssl("genpkey", "-algorithm", "rsa-pss", "-out", tmp_path / "key.pem")
    with pytest.raises(PayloadInvalid, match="RSASSA-PSS"):
        csr.parse(made(tmp_path / "key.pem", "-subj", "/CN=a.example.org"))


def test_a_large_request_with_its_text(tmp_path: Path) -> None:
    """A request with a large key, a hundred names and its text is within what a server takes by default."""
    openssl("genpkey", "-algorithm", "rsa", "-pkeyopt", "rsa_keygen_bits:4096", "-out", tmp_path / "key.pem")
    names = ",".join(f"DNS:{name}" for name in NAMES)
    body = made(tmp_path / "key.pem", "-subj", "/", "-text", "-addext", f"subjectAltName={names}")
    assert list(csr.parse(body).names) == NAMES
    assert len(body) <= MAX_SIZE


def test_must_staple(key: Path) -> None:
    """Openssl's must-staple request is accepted where that is allowed."""
    body = made(key, "-subj", "/CN=a.example.org", "-addext", "tlsfeature=status_request")
    assert csr.parse(body, csr.Rules(must_staple=True)).must_staple
    with pytest.raises(PayloadInvalid, match="must-staple"):
        csr.parse(body)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        pytest.param(
            ["-subj", "/CN=a.example.org", "-addext", "subjectAltName=email:a@example.org"],
            "e-mail",
            id="e-mail address",
        ),
        pytest.param(
            ["-subj", "/CN=a.example.org", "-addext", "basicConstraints=CA:TRUE"], "CA:TRUE", id="CA:TRUE"
        ),
        pytest.param(["-subj", "/CN=a.example.org", "-sha1"], "-sha256", id="SHA-1"),
        pytest.param(["-subj", "/CN=a.example.org", "-outform", "DER"], "it is DER, not PEM", id="DER"),
        pytest.param(["-subj", "/O=Verein"], "no names", id="no names"),
        pytest.param(
            ["-subj", "/CN=Printer 7", "-addext", "subjectAltName=DNS:a.example.org,DNS:b.example.org"],
            "-addext 'subjectAltName=DNS:a.example.org,DNS:b.example.org'",
            id="CN that is no name",
        ),
        pytest.param(
            ["-subj", "/CN=a.example.org", "-addext", "1.2.3.4=critical,ASN1:NULL"],
            "critical extension 1.2.3.4 .* removing the word `critical`",
            id="unknown critical extension",
        ),
    ],
)
def test_refused(key: Path, arguments: list[str], reason: str) -> None:
    """What `openssl req` makes otherwise is refused with a reason that names the option to change."""
    with pytest.raises(PayloadInvalid, match=reason):
        csr.parse(made(key, *arguments))
