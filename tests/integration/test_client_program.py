"""`contrib/acmems-client` against a real server and CA: with each shell and each program that speaks HTTP."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.client_answers import LOGIN_PAGE, RawAnswer, answering, issue
from tests.client_machine import Machine
from tests.peers import Acmems, Pebble, Settings, names_of, program, run, verify_chain, wait_until

EVERYWHERE = [
    ("dash", "curl"),
    ("dash", "wget"),
    ("bash", "curl"),
    ("busybox", "wget"),
    ("busybox", "busybox"),
]
SECRETS = {
    "sha256": "4c1f5b2d9e7a80366",
    "sha384": r"zwölf \\ Boxkämpfer %s $HOME 6\6",
    "sha512": "more than one block of the hash " * 5,
}
HMAC_BLOCKS = "".join(
    f'\n[auth "{name}"]\nhmac_type = {name}\nhmac_key = {secret}\ndomain = {name}.example.org\n'
    for name, secret in SECRETS.items()
)
ANYONE_ELSE = """
[auth "anyone else"]
all = yes
domain = host.example.org
domain = www.example.org
domain = late.example.org
"""


@pytest.fixture(scope="module")
def settings(pebble: Pebble, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Some names for anybody, and one for each secret."""
    made = Settings.of(pebble, tmp_path_factory.mktemp("server"))
    made.auth = HMAC_BLOCKS + ANYONE_ELSE
    return made


@pytest.fixture(scope="module")
def acmems(settings: Settings) -> Iterator[Acmems]:
    """A running server."""
    with Acmems(settings) as running:
        yield running


@pytest.fixture(params=EVERYWHERE, ids="-".join)
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    """A machine of each kind."""
    return Machine(tmp_path, *request.param)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def outcome(done: subprocess.CompletedProcess[str]) -> tuple[int, str, str]:
    return done.returncode, done.stdout, done.stderr


def test_first_use_and_nothing_to_do(acmems: Acmems, pebble: Pebble, machine: Machine) -> None:
    """The first run makes key and CSR and installs both files; the second asks and changes nothing."""
    config = machine.configure(acmems.sign_url, name=["host.example.org", "WWW.example.org"])
    done = machine.run(config)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"host: installed the certificate {machine.ssl}/host.pem, valid until ")
    assert done.stdout.count("\n") == 1
    chain = (machine.ssl / "host.pem").read_bytes()
    assert names_of(chain) == {"host.example.org", "www.example.org"}
    assert verify_chain(chain, pebble.root_pem()).endswith("OK")
    certified = run("openssl", "x509", "-in", "host.pem", "-noout", "-pubkey", folder=machine.ssl)
    assert run("openssl", "pkey", "-in", "host.key", "-pubout", folder=machine.ssl) == certified
    assert (mode(machine.ssl / "host.key"), mode(machine.ssl / "host.pem")) == (0o600, 0o644)
    before = machine.snapshot()
    assert outcome(machine.run(config)) == (0, "", "")
    assert machine.snapshot() == before
    delivered = [line for line in acmems.log.splitlines() if " delivered " in line]
    assert "status=304" in delivered[-1]


def test_renewal_and_hooks(acmems: Acmems, settings: Settings, machine: Machine) -> None:
    """A new chain for the same key is installed; its hook runs, and again until it succeeds, and no more."""
    hook = machine.hook("reload", 'echo "reloading for $ACMEMS_CHANGED"\ntest ! -e broken')
    config = machine.configure(acmems.sign_url, hook=hook)
    done = machine.run(config)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(f"reloading for host\nhook {hook}: done (changed: host)\n")
    before = machine.snapshot()
    shutil.rmtree(settings.folder / "storage")  # so that the server orders a new one
    (settings.folder / "storage").mkdir(mode=0o700)
    (machine.folder / "broken").touch()
    done = machine.run(config)
    assert done.returncode == 3
    assert "installed the certificate" in done.stdout
    assert f"hook {hook} failed with exit code 1; the next run tries it again (changed: host)" in done.stderr
    after = machine.snapshot()
    assert (after["host.key"], after["host.pem"][0]) != (before["host.key"], before["host.pem"][0])
    assert after["host.key"] == before["host.key"]
    assert machine.run(config).returncode == 3
    (machine.folder / "broken").unlink()
    done = machine.run(config)
    assert outcome(done) == (0, f"reloading for host\nhook {hook}: done (changed: host)\n", "")
    assert outcome(machine.run(config)) == (0, "", "")
    assert machine.snapshot() == after


def test_what_is_no_chain_for_this_key_is_not_installed(acmems: Acmems, machine: Machine) -> None:
    """A refusal, a login page with status 200, and a chain for another key or name leave the old chain."""
    config = machine.configure(acmems.sign_url)
    assert machine.run(config).returncode == 0
    before = machine.snapshot()
    stranger = run("openssl", "ecparam", "-genkey", "-name", "prime256v1", "-out", "k", folder=machine.folder)
    assert stranger == b""
    other = (
        "openssl",
        "req",
        "-new",
        "-key",
        "k",
        "-subj",
        "/",
        "-addext",
        "subjectAltName=DNS:host.example.org",
    )
    csr = run(*other, folder=machine.folder)
    wrong = {
        "this is no chain of certificates": lambda _: RawAnswer(body=LOGIN_PAGE),
        "the certificate is for another key": lambda _: RawAnswer(body=issue(csr)),
        "the certificate is not for DNS:host.example.org": lambda own: RawAnswer(
            body=issue(own, ("host.example.com",))
        ),
    }
    for reason, answer in wrong.items():
        with answering(answer) as server:
            done = machine.run(machine.configure(server.url))
        assert (done.returncode, done.stdout) == (1, "")
        assert f"host: no new certificate: {server.url}: {reason} (the installed one is valid" in done.stderr
        assert machine.snapshot() == before
    done = machine.run(machine.configure(acmems.sign_url, name="stranger.example.org"))
    assert done.returncode == 1
    assert f"host: no new certificate: {acmems.sign_url}: status 403" in done.stderr
    if machine.asks_with != "busybox":  # whose wget keeps the reason for itself
        assert "status 403: no auth block of this server accepts the request" in done.stderr
    assert machine.snapshot() == before


def test_an_answer_without_end_is_cut(machine: Machine) -> None:
    """Megabytes are no chain, and do not fill the disk."""
    record = machine.folder / "sizes"
    machine.replace(
        "cut", f'/bin/ls -ln {machine.state}/host/work/body >>{record}\nexec {program("cut")} "$@"'
    )
    with answering(RawAnswer(200, b"x" * 5_000_000)) as server:
        done = machine.run(machine.configure(server.url))
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{server.url}: no answer: " in done.stderr
    assert done.stderr.count("\n") == 1
    assert 1_000_000 < max(int(line.split()[4]) for line in record.read_text().splitlines()) < 2_200_000


@pytest.mark.parametrize("algorithm", SECRETS)
def test_hmac(acmems: Acmems, machine: Machine, algorithm: str) -> None:
    """The HMAC is right for every algorithm, whatever is in the secret and however long it is."""
    secret = machine.folder / "secret"
    secret.write_text(f" {SECRETS[algorithm].strip()} \n", encoding="utf-8")
    secret.chmod(0o600)
    config = machine.configure(acmems.sign_url, algorithm, hmac_type=algorithm, hmac_key_file=secret)
    assert machine.run(config).returncode == 0
    assert names_of((machine.ssl / f"{algorithm}.pem").read_bytes()) == {f"{algorithm}.example.org"}
    secret.write_text("another secret", encoding="utf-8")
    done = machine.run(config)
    assert (done.returncode, done.stdout) == (1, "")
    assert "status 403" in done.stderr


def test_secret_stands_in_no_process_list(machine: Machine) -> None:
    """While any program of the client runs, neither arguments nor environments in /proc have the secret."""
    record = machine.folder / "record"
    for name in [path.name for path in machine.programs.iterdir()]:
        path = (machine.programs / name).readlink()
        kept = machine.folder / "real" / name
        kept.parent.mkdir(exist_ok=True)
        kept.symlink_to(path)
        machine.replace(
            name,
            f'/bin/cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ >>{record} 2>/dev/null\nexec {kept} "$@"',
        )
    secret = machine.folder / "secret-file"
    secret.write_text("Xyzzy-plugh-6", encoding="utf-8")
    secret.chmod(0o600)
    with answering(RawAnswer(403)) as server:
        config = machine.configure(server.url, hmac_key_file=secret)
        assert machine.run(config).returncode == 1
    seen = record.read_bytes()
    assert b"secret-file" in seen
    assert b"dgst\0-sha256" in seen
    assert b"Xyzzy" not in seen
    assert b"58797a7a79" not in seen.lower()  # its beginning in hexadecimal
    [(headers, _)] = server.requests
    found = headers["Authentication"].partition("hash=")[2].encode()
    assert len(found) == 64
    assert (found in seen) == (machine.asks_with == "busybox")  # good for this CSR alone


def test_refused_connections_are_tried_again(acmems: Acmems, machine: Machine) -> None:
    """A client that comes while the server restarts waits, asks again and gets its certificate."""
    waits, go = machine.folder / "waits", machine.folder / "go"
    machine.replace("sleep", f'echo "$1" >>{waits}\nwhile ! test -e {go}; do /bin/sleep 0.05; done')
    config = machine.configure(acmems.sign_url, retry_for=900)
    acmems.stop()
    try:
        with machine.running(config) as client:
            wait_until(waits.exists, "the client waits")
            acmems.start()
            go.touch()
            output, errors = client.communicate(timeout=60)
    finally:
        acmems.restart()
    assert (client.returncode, errors) == (0, "")
    assert output.startswith("host: installed the certificate ")
    assert [int(line) for line in waits.read_text().splitlines()] == [pytest.approx(3, abs=1)]


def test_two_runs_do_not_meet(acmems: Acmems, machine: Machine) -> None:
    """A second run ends at once with an exit code of its own; what a hook has started does not lock."""
    begun, go, daemon = machine.folder / "begun", machine.folder / "go", machine.folder / "daemon"
    waiting = f"until test -e {go}; do /bin/sleep 0.05; done"
    hook = machine.hook(
        "slow", f"echo >{begun}\n{waiting}\nexec >/dev/null 2>&1\n/bin/sleep 60 &\necho $! >{daemon}"
    )
    config = machine.configure(acmems.sign_url, hook=hook)
    with machine.running(config) as first:
        wait_until(begun.exists, "the hook runs")
        assert outcome(machine.run(config)) == (4, "", "acmems-client: another run has not ended yet\n")
        go.touch()
        assert first.wait(60) == 0
        assert outcome(machine.run(config)) == (0, "", "")
        os.kill(int(daemon.read_text()), 0)  # it still runs


def test_monitoring_line(acmems: Acmems, machine: Machine) -> None:
    """`--check` asks nobody, and prints one line: OK, or what is critical first."""
    config = machine.configure(acmems.sign_url)
    done = machine.run("--check", config)
    assert outcome(done) == (
        2,
        f"CRITICAL: host: there is no {machine.ssl}/host.pem|host=0%;25:;12:;0;100\n",
        "",
    )
    assert not machine.state.exists()
    machine.run(config)
    done = machine.run("--check", config)
    assert (done.returncode, done.stderr) == (0, "")
    # Within the second of its beginning all of its lifetime is left.
    share = r"(99|100)"
    line = rf"OK: host: {share} % of its lifetime left, [0-9]+ days\|host={share}%;25:;12:;0;100\n"
    assert re.fullmatch(line, done.stdout)
    (machine.ssl / "other.pem").write_text("no chain")
    done = machine.run("--check", config, machine.configure(acmems.sign_url, "other"))
    assert done.returncode == 2
    assert done.stdout.startswith(f"CRITICAL: other: {machine.ssl}/other.pem is no certificate|")
    assert done.stdout.count("\n") == 1
