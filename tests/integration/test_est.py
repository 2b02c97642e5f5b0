"""EST by the letter of RFC 7030, with curl and openssl as the client, in front of a real CA."""

from __future__ import annotations

import datetime
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.peers import Acmems, Settings, free_port, run_acmems, verify_chain
from tests.peers.ca import Pebble, make_tls_certificate

NAMES = ["router.example.org", "www.router.example.org"]
AUTHORITY = ec.generate_private_key(ec.SECP256R1())
ISSUER = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "clients of tests")])


class Est:
    """A server for EST clients, and a client of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.key = folder / "key.pem"
        self.url = f"https://127.0.0.1:{self.port}/.well-known/est"
        make_tls_certificate(folder / "tls.pem", folder / "tls-key.pem")
        (folder / "tls-key.pem").chmod(0o600)
        save_certificate(folder / "client-ca.pem", (), None)

    @property
    def mgmt(self) -> str:
        """Further lines of the configuration."""
        return (
            f"\nest = yes\ntls-listener = 127.0.0.1:{self.port}\ntls-certificate = {self.folder}/tls.pem\n"
            f"tls-key = {self.folder}/tls-key.pem\ntls-client-ca = {self.folder}/client-ca.pem\n"
        )

    def csr(self, names: Sequence[str]) -> Path:
        """Return the base64 of a new CSR, as `openssl base64` writes it."""
        alternative = "subjectAltName=" + ",".join(f"DNS:{name}" for name in names)
        subject = ("-subj", f"/O=Printers/CN={names[0]}", "-addext", alternative)
        new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", str(self.key))
        run("openssl", "req", "-new", *new, *subject, "-outform", "DER", "-out", f"{self.folder}/csr.der")
        run("openssl", "base64", "-in", f"{self.folder}/csr.der", "-out", f"{self.folder}/csr.b64")
        return self.folder / "csr.b64"

    def curl(self, path: str, *arguments: str) -> tuple[int, bytes]:
        """Return the status and the body of an answer."""
        body = self.folder / "answer"
        body.unlink(missing_ok=True)
        fixed = ("--cacert", f"{self.folder}/tls.pem", "-o", str(body), "-w", "%{http_code}")
        status = run("curl", "-sS", *fixed, *arguments, f"{self.url}/{path}")
        return int(status), body.read_bytes() if body.exists() else b""

    def enroll(self, operation: str, names: Sequence[str], *arguments: str) -> tuple[int, bytes]:
        """Ask for a certificate."""
        file = self.csr(names)
        header = "Content-Type: application/pkcs10"
        return self.curl(operation, "-H", header, "--data-binary", f"@{file}", *arguments)


def run(*command: str, stdin: bytes = b"") -> bytes:
    return subprocess.run(command, input=stdin, capture_output=True, check=True, timeout=60).stdout


def certificates_in(answer: bytes) -> list[x509.Certificate]:
    """Read an answer as clients do, by openssl."""
    der = run("openssl", "base64", "-d", stdin=answer)
    return x509.load_pem_x509_certificates(
        run("openssl", "pkcs7", "-inform", "DER", "-print_certs", stdin=der)
    )


def names_in(certificate: x509.Certificate) -> set[str]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return set(names.get_values_for_type(x509.DNSName))


def save_certificate(path: Path, names: Sequence[str], key_path: Path | None) -> None:
    """Write a certificate of the clients' CA, for a client or for itself, and its key."""
    key = AUTHORITY if key_path is None else ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder(ISSUER, ISSUER if key_path is None else x509.Name([]), key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=key_path is None, path_length=None), critical=True)
    )
    if names:
        alternative = x509.SubjectAlternativeName(map(x509.DNSName, names))
        builder = builder.add_extension(alternative, critical=True)
    path.write_bytes(builder.sign(AUTHORITY, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    if key_path is not None:
        form, kept = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        key_path.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, kept))


TOKEN = "EJ3q6rXZ0n7pVtqk"  # noqa: S105 - known to everyone who reads tests
BLOCKS = f"""
[auth "printers"]
domain = *.printers.example.org
token = {TOKEN}

[auth "known"]
domain = **.example.org
client-certificate = yes

[auth "near"]
domain = *.near.example.org
ip = 127.0.0.1
"""


@pytest.fixture(scope="module")
def est(pebble: Pebble, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Est]:
    """A server that serves EST to devices with a password, with a certificate, or near to it."""
    folder = tmp_path_factory.mktemp("est")
    est = Est(folder)
    settings = Settings.of(pebble, folder)
    settings.mgmt += est.mgmt
    settings.auth = BLOCKS
    with Acmems(settings):
        yield est


def test_a_device_enrolls_and_learns_the_intermediates(est: Est, pebble: Pebble) -> None:
    """The leaf comes alone; cacerts has what leads to the root, which the device knows."""
    status, answer = est.enroll("simpleenroll", ["a.near.example.org", "b.near.example.org"])
    assert status == 200, answer
    (leaf,) = certificates_in(answer)
    assert names_in(leaf) == {"a.near.example.org", "b.near.example.org"}
    key = serialization.load_pem_private_key(est.key.read_bytes(), None)
    assert leaf.public_key() == key.public_key()
    status, answer = est.curl("cacerts")
    assert status == 200, answer
    chain = [leaf, *certificates_in(answer)]
    pem = b"".join(each.public_bytes(serialization.Encoding.PEM) for each in chain)
    assert verify_chain(pem, pebble.root_pem()).endswith("OK")


def test_the_password_of_a_device_is_the_token_of_a_block(est: Est) -> None:
    """Whoever the user is; curl sends it only when it is asked, as devices do. Any other one is refused."""
    names = ["a.printers.example.org"]
    for label in ("", "printers/"):
        status, answer = est.enroll(f"{label}simpleenroll", names, "--anyauth", "-u", f"printer:{TOKEN}")
        assert status == 200, answer
        assert names_in(certificates_in(answer)[0]) == set(names)
    assert est.enroll("simpleenroll", names, "--basic", "-u", "printer:wrong")[0] == 403
    assert est.enroll("simpleenroll", names)[0] == 401
    assert est.enroll("near/simpleenroll", names, "--basic", "-u", f"printer:{TOKEN}")[0] == 403


def test_the_same_request_again_brings_the_same_certificate(est: Est) -> None:
    """As after 202: what was obtained for it is there."""
    status, first = est.enroll("simpleenroll", ["again.near.example.org"])
    assert status == 200
    status, second = est.curl("simpleenroll", "--data-binary", f"@{est.folder}/csr.b64")
    assert status == 200
    assert certificates_in(first) == certificates_in(second)


def test_a_device_renews_what_it_has_and_nothing_else(est: Est) -> None:
    """By the certificate that it shows: for another name, or without one, it is refused."""
    certificate, key = est.folder / "client.pem", est.folder / "client-key.pem"
    save_certificate(certificate, NAMES, key)
    shown = ("--cert", str(certificate), "--key", str(key))
    status, answer = est.enroll("simplereenroll", NAMES, *shown)
    assert status == 200, answer
    assert names_in(certificates_in(answer)[0]) == set(NAMES)
    assert est.enroll("simplereenroll", NAMES[:1], *shown)[0] == 400
    assert est.enroll("simplereenroll", [*NAMES, "more.example.org"], *shown)[0] == 401
    assert est.enroll("simplereenroll", ["a.near.example.org"])[0] == 400


def test_other_answers(est: Est) -> None:
    """What there is not, and what is not acceptable."""
    assert est.curl("csrattrs") == (204, b"")
    assert est.curl("serverkeygen", "-d", "x")[0] == 501
    assert est.curl("simpleenroll", "-d", "no base64!")[0] == 415
    assert est.curl("nowhere/simpleenroll", "-d", "x")[0] == 401
    assert est.curl("nowhere/simpleenroll", "-d", "x", "-u", "a:b")[0] == 403


LOCAL = """
[local-ca "office"]
dir = {folder}/ca
permit = internal.example

[mgmt]
listener =
{mgmt}

[storage "state"]
type = sql

[auth "new"]
domain = *.printers.internal.example
token = {token}

[auth "known"]
domain = *.printers.internal.example
client-certificate = yes
"""


@pytest.mark.threat("http", "revoked client certificates")
def test_a_device_lives_with_a_local_ca(tmp_path: Path) -> None:
    """By password at first, then by the certificate that it has; it learns root and intermediate."""
    est, config, name = Est(tmp_path), tmp_path / "acmems.ini", "a.printers.internal.example"
    text = LOCAL.format(folder=tmp_path, mgmt=est.mgmt, token=TOKEN)
    config.write_text(text)
    made = run_acmems("ca", "init", config)
    assert made.returncode == 0, made.stderr
    known = [(tmp_path / "ca" / f"{each}.pem").read_bytes() for each in ("root", "intermediate")]
    (tmp_path / "client-ca.pem").write_bytes(b"".join(known))
    with Acmems(text):
        status, answer = est.curl("cacerts")
        assert (status, certificates_in(answer)) == (200, [*map(x509.load_pem_x509_certificate, known)])
        status, answer = est.enroll("new/simpleenroll", [name], "--basic", "-u", f"printer:{TOKEN}")
        assert status == 200, answer
        (leaf,) = certificates_in(answer)
        pem = leaf.public_bytes(serialization.Encoding.PEM)
        assert verify_chain(pem + known[1], known[0].decode()).endswith("OK")
        (tmp_path / "device.pem").write_bytes(pem)
        est.key.rename(tmp_path / "device-key.pem")
        shown = ("--cert", f"{tmp_path}/device.pem", "--key", f"{tmp_path}/device-key.pem")
        status, answer = est.enroll("simplereenroll", [name], *shown)
        assert status == 200, answer
        (renewed,) = certificates_in(answer)
        assert renewed.public_key() != leaf.public_key()
        assert est.enroll("simplereenroll", ["b.printers.internal.example"], *shown)[0] == 401
        revoked = run_acmems("revoke", "--yes", config, tmp_path / "device.pem")
        assert revoked.returncode == 0, revoked.stderr
        assert est.enroll("simplereenroll", [name], *shown)[0] == 401
