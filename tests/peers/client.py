"""A client machine: openssl, curl and wget, and nothing else."""

from __future__ import annotations

import email.message
import email.parser
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.peers.process import PeerFailed, environment, program

KINDS = {
    "ec": ("ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
    "ec384": ("ec", "-pkeyopt", "ec_paramgen_curve:P-384"),
    "rsa": ("rsa:2048",),
    "rsa4096": ("rsa:4096",),
}


@dataclass(frozen=True)
class Reply:
    """An HTTP answer: the last one, where there were several."""

    status: int
    headers: email.message.Message
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()


def run(*command: str | Path, folder: Path | None = None, stdin: bytes = b"") -> bytes:
    """Run a client's program and return what it prints.

    Raises:
        PeerFailed: its exit code is not 0.
    """
    name, *arguments = command
    done = subprocess.run(
        [program(str(name)), *arguments],
        cwd=folder,
        input=stdin,
        capture_output=True,
        check=False,
        timeout=120,
        env=environment(),
    )
    if done.returncode:
        raise PeerFailed(f"{name} ended with {done.returncode}: {done.stderr.decode(errors='replace')}")
    return done.stdout


def make_key_and_csr(
    folder: Path,
    names: Sequence[str],
    *,
    kind: str = "ec",
    cn: str | None = None,
    san: bool = True,
    key: Path | None = None,
    stem: str = "client",
    addresses: Sequence[str] = (),
) -> tuple[Path, Path]:
    """Make a private key and a certificate signing request with openssl.

    Args:
        folder: where to write `STEM.key` and `STEM.csr`.
        names: the DNS names to ask for.
        kind: of key: `ec`, `ec384`, `rsa` or `rsa4096`.
        cn: the subject's common name; None for an empty subject, or, without `san`, for the first name.
        san: whether the names are written as subjectAltName.
        key: a private key to use again, instead of a new one.
        stem: of the file names.
        addresses: the IP addresses to ask for, beside the names.

    Returns:
        The paths of the key and of the request.
    """
    key_file, csr_file = key or folder / f"{stem}.key", folder / f"{stem}.csr"
    with tempfile.NamedTemporaryFile("w", suffix=".cnf", encoding="utf-8") as config:
        config.write("[req]\ndistinguished_name = subject\n[subject]\n")
        config.flush()
        make: list[str | Path] = (
            ["-key", key_file] if key else ["-newkey", *KINDS[kind], "-nodes", "-keyout", key_file]
        )
        common_name = cn or ("" if san else names[0])
        subject = f"/CN={common_name}" if common_name else "/"
        alternatives = [f"DNS:{name}" for name in names] + [f"IP:{address}" for address in addresses]
        extension = ["-addext", "subjectAltName=" + ",".join(alternatives)] if san else []
        run(
            "openssl",
            "req",
            "-new",
            "-config",
            config.name,
            *make,
            "-subj",
            subject,
            *extension,
            "-out",
            csr_file,
        )
    return key_file, csr_file


def hmac_header(csr: Path, secret: str, algorithm: str = "sha256") -> str:
    """Return the header that signs a request with a shared secret, computed by openssl."""
    digest = run("openssl", "dgst", f"-{algorithm}", "-hmac", secret, csr).decode().split()[-1]
    return f"Authentication: hmac name={algorithm}, hash={digest}"


def curl(url: str, *arguments: str | Path) -> Reply:
    """Ask with curl and return the answer, whatever its status.

    Raises:
        PeerFailed: there was no answer.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run("curl", "-sS", "-D", folder / "headers", "-o", folder / "body", *arguments, url)
        heads = (folder / "headers").read_text(encoding="latin-1").replace("\r\n", "\n").strip().split("\n\n")
        status_line, _, fields = heads[-1].partition("\n")
        body = (folder / "body").read_bytes() if (folder / "body").exists() else b""
        return Reply(int(status_line.split()[1]), email.parser.Parser().parsestr(fields), body)


def curl_sign(url: str, csr: Path, *, secret: str | None = None, algorithm: str = "sha256") -> Reply:
    """Send a signing request with curl, signed where there is a secret."""
    header = ["-H", hmac_header(csr, secret, algorithm)] if secret is not None else []
    return curl(url, *header, "--data-binary", f"@{csr}")


def names_of(certificate: bytes) -> set[str]:
    """Return the DNS names of the first certificate in a chain, as openssl reads them."""
    text = run("openssl", "x509", "-noout", "-ext", "subjectAltName", stdin=certificate).decode()
    return {part.strip().removeprefix("DNS:") for part in text.splitlines()[-1].split(",")}


def verify_chain(chain: bytes, root_pem: str) -> str:
    """Check a chain against the CA's root with `openssl verify`, and return what openssl says.

    Raises:
        PeerFailed: the chain does not lead to this root.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "chain.pem").write_bytes(chain)
        (folder / "root.pem").write_text(root_pem, encoding="ascii")
        files = ("-CAfile", "root.pem", "-untrusted", "chain.pem", "chain.pem")
        return run("openssl", "verify", *files, folder=folder).decode().strip()
