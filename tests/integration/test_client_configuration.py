"""How `contrib/acmems-client` reads its configuration, and what it does around the certificates."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.client_answers import DAY, AnswerServer, RawAnswer, answering, issued
from tests.client_machine import CLIENT, Machine, Setting
from tests.peers import Acmems, Nginx, Settings, free_port, names_of
from tests.peers.ca import make_tls_certificate

FILE = "/etc/ssl/x"


@pytest.fixture(params=["dash", "bash", "busybox"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    return Machine(tmp_path, request.param)


@pytest.fixture
def server() -> Iterator[AnswerServer]:
    """A server that issues a new chain whenever it is asked."""
    with answering(issued()) as running:
        yield running


WRONG: dict[str, tuple[dict[str, Setting | None], str]] = {
    "no server": ({"server": None}, "there is no server"),
    "no name": ({"name": None}, "there is no name"),
    "no key": ({"key": None}, "there is no key"),
    "no fullchain": ({"fullchain": None}, "there is no fullchain"),
    "relative": ({"fullchain": "host.pem"}, "fullchain: an absolute path is needed"),
    "folder": ({"chain": "/etc/ssl/"}, "chain: this cannot be the name of a file"),
    "same file": ({"chain": FILE, "certificate": FILE}, f"{FILE} is named twice"),
    "twice": ({"timeout": [1, 2]}, "timeout is given twice"),
    "empty": ({"proxy": " "}, "proxy has no value"),
    "unknown": ({"colour": "red"}, "there is no setting colour"),
    "URL": ({"server": "ftp://acmems.example.org/sign"}, "server: a URL with http:// or https:// is needed"),
    "URL with a password": (
        {"server": "http://me:secret@acmems.example.org/sign"},
        "server: there is something in this URL that does not belong there",
    ),
    "URL with a blank": (
        {"server": "http://a/ --output /etc/passwd"},
        "server: there is something in this URL",
    ),
    "name with a comma": ({"name": "a.example.org,b.example.org"}, "name: DNS names have letters"),
    "name with a variable": ({"name": "$HOSTNAME"}, "name: DNS names have letters"),
    "name in Unicode": ({"name": "bücher.example.org"}, "international ones begin with xn--"),
    "star inside": ({"name": "a.*.example.org"}, "name: DNS names have letters"),
    "address": ({"name": "fe80::1%eth0"}, "name: this is neither a DNS name nor an IP address"),
    "number": ({"retry_for": "15m"}, "retry-for: a number is needed"),
    "octal": ({"timeout": "010"}, "timeout: a number without leading zeros is needed"),
    "mode": ({"mode": "0666"}, "mode: such as 0644 or 0640"),
    "key for all": ({"key_mode": "0644"}, "key-mode: 0600, 0640, 0400 or 0440; others must not read it"),
    "owner": ({"owner": "-R"}, "owner: this is no name"),
    "unit": ({"reload": "nginx; reboot"}, "reload: this is no name"),
    "key type": ({"key_type": "dsa"}, "key-type: ec256, ec384, rsa2048, rsa3072 or rsa4096"),
    "hmac type": ({"hmac_type": "md5"}, "hmac-type: sha256, sha384 or sha512"),
    "fresh without secret": ({"hmac_fresh": "yes"}, "hmac-fresh needs hmac-key-file"),
    "neither yes nor no": ({"rotate_key": "maybe"}, "rotate-key: yes or no is needed"),
    "CSR and name": (
        {"csr": CLIENT, "key": None},
        "csr and name: the names stand in the CSR; leave out one of the two",
    ),
    "limits": ({"critical": 30}, "critical: at most warning"),
    "hook with arguments": ({"hook": "/bin/echo hello"}, "hook: /bin/echo hello is no program"),
    "no secret": ({"hmac_key_file": "/nowhere"}, "hmac-key-file: /nowhere cannot be read"),
    "no CA": ({"ca_file": "/nowhere"}, "ca-file: /nowhere cannot be read"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, case: str) -> None:
    """Each mistake is one line with the file, nothing is asked, and the exit code is 2."""
    settings, message = WRONG[case]
    machine = Machine(tmp_path)
    with answering(RawAnswer(403)) as server:
        config = machine.configure(server.url, **settings)
        done = machine.run(config)
        assert server.requests == []
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"acmems-client: {config}:")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_all_mistakes_are_told_at_once(machine: Machine) -> None:
    """Every mistake has its line number, and other configurations are looked after all the same."""
    with answering(issued()) as server:
        bad = machine.configure(server.url, "bad")
        bad.write_text("# comment\n; comment\n\nhello\n  name =\nmode=9\nserver = x")
        done = machine.run(bad, machine.configure(server.url))
    assert done.returncode == 2
    assert done.stdout.startswith("host: installed the certificate ")
    told = [line.removeprefix(f"acmems-client: {bad}:") for line in done.stderr.splitlines()]
    assert told == [
        '4: this is no "key = value"',
        "5: name has no value",
        "6: mode: such as 0644 or 0640",
        "7: server: a URL with http:// or https:// is needed",
        " there is no fullchain",
        " there is no key",
    ]


def test_values_are_never_expanded(machine: Machine, server: AnswerServer) -> None:
    """Blanks, stars, quotes and dollars in paths are what they are; CRLF is a line end."""
    folder = machine.folder / "a $(touch x) 'b' * \"c\" \\n `d`"
    folder.mkdir()
    hook = folder / "my hook"
    hook.write_text("#!/bin/sh\necho hooked $#\n")
    hook.chmod(0o755)
    files = {
        kind: folder / f"{kind} $HOME.pem"
        for kind in ("key", "fullchain", "combined", "chain", "certificate")
    }
    config = machine.configure(server.url, **files, hook=hook)
    config.write_bytes(config.read_bytes().replace(b"\n", b"\r\n"))
    for _ in range(2):
        done = machine.run(config)
        assert (done.returncode, done.stderr) == (0, "")
        assert "\nhooked 0\n" in done.stdout
    assert {path.name for path in folder.iterdir()} == {"my hook", *(path.name for path in files.values())}
    assert not list(machine.folder.rglob("x"))


def test_two_configurations_do_not_share_files(machine: Machine, server: AnswerServer) -> None:
    """A copied configuration that still has the files of the first one is refused; the first one works."""
    one = machine.configure(server.url, "one")
    two = machine.configure(server.url, "two", fullchain=machine.ssl / "one.pem")
    done = machine.run(one, two, one)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"acmems-client: {two}: another configuration has {machine.ssl}/one.pem as well",
        f"acmems-client: {one}: another configuration has one as well",
    ]
    assert set(machine.snapshot()) == {"one.key", "one.pem"}


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_secret_that_others_can_read_is_refused(machine: Machine, mode: int) -> None:
    """The file with the secret is for its owner alone; its content appears nowhere."""
    secret = machine.folder / "secret"
    secret.write_text("xyzzy")
    secret.chmod(mode)
    done = machine.run(machine.configure("http://127.0.0.1:1/sign", hmac_key_file=secret))
    assert done.returncode == 2
    assert f"hmac-key-file: others can read the secret: chmod 600 {secret}" in done.stderr
    assert "xyzzy" not in done.stderr


@pytest.mark.parametrize("what", ["configuration", "hook"])
@pytest.mark.parametrize("mode", [0o775, 0o757])
def test_what_others_can_write_is_not_trusted(
    machine: Machine, server: AnswerServer, what: str, mode: int
) -> None:
    """A configuration or hook that group or others can change could make root do anything."""
    hook = machine.hook("hook", "echo hooked")
    config = machine.configure(server.url, hook=hook)
    (hook if what == "hook" else config).chmod(mode)
    done = machine.run(config)
    assert (done.returncode, done.stdout) == (2, "")
    assert "must belong to root, and nobody else may write to it (chmod go-w)" in done.stderr


def test_a_state_directory_of_others_is_not_used(machine: Machine, server: AnswerServer) -> None:
    """New keys are not made where somebody else could put a link."""
    if os.getuid() != 0:
        pytest.skip("only root can give a directory away")
    machine.state.mkdir()
    os.chown(machine.state, 65534, 65534)
    done = machine.run(machine.configure(server.url))
    assert (done.returncode, done.stderr) == (2, f"acmems-client: {machine.state} cannot be used\n")


def test_hooks_run_once_for_all_certificates(machine: Machine) -> None:
    """A hook that several certificates name runs once, after all of them, and is told which have changed."""
    with answering(issued()) as server:
        shared = machine.hook("shared", 'echo "shared: $ACMEMS_CHANGED"')
        own = machine.hook("own", f'test -e {machine.folder}/works && echo "own: $ACMEMS_CHANGED"')
        one = machine.configure(server.url, "one", hook=[shared, own])
        two = machine.configure(server.url, "two", hook=shared)
        done = machine.run(one, two)
    assert done.returncode == 3
    assert [line for line in done.stdout.splitlines() if "shared" in line] == [
        "shared: one two",
        f"hook {shared}: done (changed: one two)",
    ]
    (machine.folder / "works").touch()
    done = machine.run(one, two)  # the server is gone; hooks do not wait for it
    assert done.returncode == 1
    assert done.stdout == f"own: one\nhook {own}: done (changed: one)\n"


def test_a_hook_that_is_corrected_runs(machine: Machine, server: AnswerServer) -> None:
    """If the configuration names another hook instead of the failing one, that one runs."""
    bad, good = machine.hook("bad", "exit 1"), machine.hook("good", "echo good")
    assert machine.run(machine.configure(server.url, hook=bad)).returncode == 3
    with answering(RawAnswer(503)) as down:
        done = machine.run(machine.configure(down.url, hook=good))
    assert done.stdout.startswith("good\n")


def test_reload(machine: Machine, server: AnswerServer) -> None:
    """`reload` asks the service manager of the machine."""
    for name in ("systemctl", "rc-service", "service"):
        machine.replace(name, f'echo {name} "$@"')
    done = machine.run(machine.configure(server.url, reload="nginx"))
    assert done.returncode == 0
    assert done.stdout.splitlines()[1] in {
        "systemctl try-reload-or-restart nginx",
        "rc-service --ifstarted nginx reload",
    }


def test_syslog(machine: Machine, server: AnswerServer) -> None:
    """With `--syslog`, changes and errors go to the log as well."""
    machine.replace("logger", f'printf "%s|" "$@" >>{machine.folder}/log; echo >>{machine.folder}/log')
    machine.run("--syslog", machine.configure(server.url))
    with answering(RawAnswer(403)) as refusing:
        machine.run("--syslog", machine.configure(refusing.url))
    changed, failed = (machine.folder / "log").read_text().splitlines()
    assert changed.startswith("-t|acmems-client|-p|daemon.info|--|host: installed the certificate ")
    assert failed.startswith("-t|acmems-client|-p|daemon.err|--|host: no new certificate: ")


def test_splay(machine: Machine, server: AnswerServer) -> None:
    """With `--splay`, a run begins at a random time, and does not lock before."""
    machine.replace("sleep", f"test ! -e {machine.state}/lock || exit 1\necho $1 >>{machine.folder}/slept")
    done = machine.run("--splay", "1000000", machine.configure(server.url))
    assert (done.returncode, done.stderr) == (0, "")
    first = (machine.folder / "slept").read_text()
    assert 0 <= int(first) <= 1_000_000
    machine.run("--splay", "1000000", machine.configure(server.url))
    assert (machine.folder / "slept").read_text() != first * 2


@pytest.mark.parametrize(
    "arguments", [("--colour",), ("--splay",), ("--splay", "1h"), ("--state", "here"), ("missing.conf",), ()]
)
def test_wrong_usage(machine: Machine, arguments: tuple[str, ...]) -> None:
    """Wrong arguments are told in one line, with exit code 2."""
    done = machine.run(*arguments)
    if arguments or not Path("/etc/acmems-client").exists():
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


def test_help(machine: Machine) -> None:
    """Help goes to stdout and names every option."""
    done = machine.run("--help")
    assert (done.returncode, done.stderr) == (0, "")
    for option in ("--check", "--splay", "--state", "--syslog", "--help", "--version"):
        assert option in done.stdout


@pytest.mark.parametrize("missing", ["openssl", "flock", "timeout", "curl"])
def test_a_missing_program_is_named(machine: Machine, server: AnswerServer, missing: str) -> None:
    """What the client needs and the machine lacks is told by its name."""
    (machine.programs / missing).unlink()
    if (Path("/usr/sbin") / missing).exists() or (Path("/sbin") / missing).exists():
        pytest.skip("it is in /sbin as well")
    done = machine.run(machine.configure(server.url))
    assert done.returncode == (1 if missing == "curl" else 2)
    assert missing in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("asks_with", ["curl", "wget", "busybox"])
def test_https(settings: Settings, tmp_path: Path, asks_with: str) -> None:
    """HTTPS is checked with the CA file; a certificate of another CA is told at once, and nothing is sent."""
    machine = Machine(tmp_path, "busybox" if asks_with == "busybox" else "dash", asks_with)
    certificate, key, port = tmp_path / "tls.pem", tmp_path / "tls.key", free_port()
    make_tls_certificate(certificate, key)
    with Acmems(settings) as acmems:
        site = f"""server {{
            listen 127.0.0.1:{port} ssl; ssl_certificate {certificate}; ssl_certificate_key {key};
            location / {{ proxy_pass http://127.0.0.1:{acmems.port}; }}
        }}"""
        with Nginx(port, sites=site):
            url = f"https://127.0.0.1:{port}/sign"
            done = machine.run(machine.configure(url, retry_for=900))
            assert done.returncode == 1
            assert "no answer: " in done.stderr
            assert "requested" not in acmems.log
            done = machine.run(machine.configure(url, ca_file=certificate))
    if asks_with == "busybox":
        assert done.returncode == 1
        assert "the wget of busybox checks no certificates: install curl or wget" in done.stderr
    else:
        assert (done.returncode, done.stderr) == (0, "")
        assert names_of((machine.ssl / "host.pem").read_bytes()) == {"host.example.org"}


def test_check_may_be_run_by_anybody(machine: Machine) -> None:
    """Monitoring needs neither the secret nor the key."""
    secret = machine.folder / "secret"
    secret.write_text("xyzzy")
    secret.chmod(0o600)
    with answering(issued(left=22 * DAY)) as server:
        config = machine.configure(
            server.url, hmac_key_file=secret, key=machine.folder / "private" / "host.key"
        )
        (machine.folder / "private").mkdir()
        assert machine.run(config).returncode == 0
    secret.unlink()
    (machine.folder / "private" / "host.key").unlink()
    (machine.folder / "private").rmdir()
    done = machine.run("--check", config)
    assert (done.returncode, done.stderr) == (1, "")
    for path in (machine.state, machine.state / "host"):
        assert path.stat().st_mode & 0o777 == 0o755
