"""What `contrib/acmems-client` writes: every kind of file, modes and owners, all of them or none."""

from __future__ import annotations

import grp
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from tests.client_answers import DAY, AnswerServer, RawAnswer, answering, issue, issued
from tests.client_machine import Machine, Setting
from tests.peers import names_of, program, run


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def server() -> Iterator[AnswerServer]:
    """A server that issues a new chain whenever it is asked."""
    with answering(issued()) as running:
        yield running


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def certificates(path: Path) -> list[str]:
    """Return the certificates in a file."""
    end = "-----END CERTIFICATE-----\n"
    return [part + end for part in path.read_text().split(end)[:-1]]


def test_every_kind_of_file(machine: Machine, server: AnswerServer) -> None:
    """Leaf, intermediates, both, and both with the key for HAProxy, each as it is named."""
    files = {kind: machine.ssl / kind for kind in ("certificate", "chain", "combined")}
    config = machine.configure(server.url, **files)
    assert machine.run(config).returncode == 0
    leaf, issuer = certificates(machine.ssl / "host.pem")
    assert files["certificate"].read_text() == leaf
    assert files["chain"].read_text() == issuer
    assert files["combined"].read_text() == leaf + issuer + (machine.ssl / "host.key").read_text()
    assert [
        mode(machine.ssl / name) for name in ("certificate", "chain", "combined", "host.key", "host.pem")
    ] == [
        0o644,
        0o644,
        0o600,
        0o600,
        0o644,
    ]


def test_a_file_that_is_added_later_is_written(machine: Machine) -> None:
    """Files that the configuration names anew, or that were damaged, are written from the installed chain."""
    with answering(issued()) as first:
        assert machine.run(machine.configure(first.url)).returncode == 0
    chain = (machine.ssl / "host.pem").read_bytes()
    hook = machine.hook("reload", "echo reloaded")
    with answering(RawAnswer(body=chain)) as server:
        config = machine.configure(server.url, combined=machine.ssl / "combined", hook=hook)
        done = machine.run(config)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("host: wrote the files of the certificate")
        assert done.stdout.splitlines()[1] == "reloaded"
        key = (machine.ssl / "host.key").read_bytes()
        (machine.ssl / "combined").write_bytes(b"damaged")
        assert machine.run(config).returncode == 0
        assert (machine.ssl / "combined").read_bytes() == chain + key
        assert machine.run(config).stdout == ""


DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-200]),
    "without intermediates": lambda path: path.write_text(certificates(path)[0]),
    "lost": Path.unlink,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_lost_or_damaged_chain_is_fetched_anew(machine: Machine, damage: str) -> None:
    """The ETag is sent only while the installed chain is the one that it belongs to."""

    def answer(csr: bytes) -> RawAnswer:
        return RawAnswer(body=issue(csr), headers={"ETag": '"first"'})

    path = machine.ssl / "host.pem"
    with answering(answer, RawAnswer(304), answer) as server:
        config = machine.configure(server.url)
        for _ in range(2):
            assert machine.run(config).returncode == 0
        DAMAGES[damage](path)
        assert machine.run(config).returncode == 0
        assert len(certificates(path)) == 2
    tags = [headers.get("If-None-Match") for headers, _ in server.requests]
    assert tags == [None, '"first"', None]


def test_an_etag_is_for_one_server(machine: Machine) -> None:
    """Another server is not asked with a tag that it did not give."""
    with answering(lambda csr: RawAnswer(body=issue(csr), headers={"ETag": '"first"'})) as server:
        machine.run(machine.configure(server.url))
    with answering(issued()) as other:
        assert machine.run(machine.configure(other.url)).returncode == 0
    assert "If-None-Match" not in other.requests[0][0]


@pytest.mark.parametrize("tag", ['W/"weak"', "bare", '"a"b"', '"', '"with\ttab"', '"back\\slash"'])
def test_a_strange_etag_is_not_kept(machine: Machine, tag: str) -> None:
    """What is not a plain strong tag goes into no later request."""
    with answering(lambda csr: RawAnswer(body=issue(csr), headers={"ETag": tag})) as server:
        config = machine.configure(server.url)
        assert machine.run(config).returncode == 0
        assert machine.run(config).returncode == 0
    assert "If-None-Match" not in server.requests[1][0]


def test_modes_and_owners(machine: Machine, server: AnswerServer) -> None:
    """Modes, owner and group are as configured, from the first moment and after a change of either."""
    groups = [group for group in os.getgroups() if group != os.getgid()] or [os.getgid()]
    if os.getuid() == 0:
        groups = [grp.getgrnam("nogroup").gr_gid]
    settings: dict[str, Setting] = {
        "combined": machine.ssl / "combined",
        "key_mode": "0640",
        "key_group": grp.getgrgid(groups[0]).gr_name,
    }
    config = machine.configure(server.url, mode="444", **settings)
    assert machine.run(config).returncode == 0
    for name in ("host.key", "combined"):
        assert (mode(machine.ssl / name), (machine.ssl / name).stat().st_gid) == (0o640, groups[0])
    assert (mode(machine.ssl / "host.pem"), (machine.ssl / "host.pem").stat().st_gid) == (0o444, os.getgid())
    machine.configure(server.url, mode="0640", **settings)
    assert machine.run(config).returncode == 0
    assert mode(machine.ssl / "host.pem") == 0o640


def test_an_owner_that_cannot_be_given_changes_nothing(machine: Machine, server: AnswerServer) -> None:
    """If one file cannot be had, none is installed."""
    assert machine.run(machine.configure(server.url)).returncode == 0
    before = machine.snapshot()
    settings = {"combined": machine.ssl / "combined", "certificate": machine.ssl / "certificate"}
    done = machine.run(machine.configure(server.url, owner="nobody-of-this-name", **settings))
    assert done.returncode == 1
    assert f"{machine.ssl}/host.pem cannot be given to nobody-of-this-name: " in done.stderr
    assert machine.snapshot() == before


@pytest.mark.parametrize("kind", ["certificate", "chain"])
def test_a_place_that_cannot_be_written_changes_nothing(
    machine: Machine, server: AnswerServer, kind: str
) -> None:
    """A missing folder, or a folder in the place of a file, leaves all other files as they were."""
    assert machine.run(machine.configure(server.url)).returncode == 0
    before = machine.snapshot()
    done = machine.run(machine.configure(server.url, **{kind: machine.folder / "missing" / "file"}))
    assert done.returncode == 1
    assert f"{machine.folder}/missing/file cannot be written: " in done.stderr
    done = machine.run(machine.configure(server.url, **{kind: machine.hooks}))
    assert f"{machine.hooks} is a directory" in done.stderr
    assert machine.snapshot() == before
    assert machine.run(machine.configure(server.url)).returncode == 0, "the new chain waits"
    assert machine.snapshot() != before


def test_a_replacement_that_fails_half_way_is_undone(machine: Machine, server: AnswerServer) -> None:
    """If a later file cannot be moved to its place, the earlier ones are put back; nothing is left over."""
    config = machine.configure(
        server.url, certificate=machine.ssl / "leaf", combined=machine.ssl / "combined"
    )
    assert machine.run(config).returncode == 0
    (machine.ssl / "combined").unlink()  # so that one file was not there before
    before = machine.snapshot()
    machine.replace(
        "mv",
        f'case $* in *acmems-new*{machine.ssl}/leaf) echo no >&2; exit 1; esac\nexec {program("mv")} "$@"',
    )
    done = machine.run(config)
    assert done.returncode == 1
    assert f"{machine.ssl}/leaf cannot be replaced: no (the installed one is valid until " in done.stderr
    assert machine.snapshot() == before
    machine.replace("mv", f'exec {program("mv")} "$@"')
    assert machine.run(config).returncode == 0
    assert {"leaf", "combined", "host.pem", "host.key"} == set(machine.snapshot())


def test_a_kill_between_two_files_is_mended_without_the_server(machine: Machine) -> None:
    """A run that was killed when only the new key was in place is finished by the next one, hook and all."""
    hook = machine.hook("reload", "echo reloaded")
    with answering(issued()) as server:
        config = machine.configure(server.url, combined=machine.ssl / "combined")
        assert machine.run(config).returncode == 0
        old = (machine.ssl / "host.key").read_bytes()
        recorded = machine.state / "host" / "delivered"
        recorded.write_text("\n".join([*recorded.read_text().splitlines()[:3], "1", ""]))  # due since 1970
        config = machine.configure(server.url, combined=machine.ssl / "combined", rotate_key="yes", hook=hook)
        machine.replace("mv", f'case $* in *acmems-new*host.pem) kill -9 0; esac\nexec {program("mv")} "$@"')
        with machine.running(config) as client:
            assert client.wait(60) == -signal.SIGKILL
    key = (machine.ssl / "host.key").read_bytes()
    assert key != old
    machine.replace("mv", f'exec {program("mv")} "$@"')
    done = machine.run(config)  # the server is gone
    assert done.returncode == 1
    assert "no answer: " in done.stderr
    assert done.stdout.splitlines()[1] == "reloaded"
    certified = run("openssl", "x509", "-in", "host.pem", "-noout", "-pubkey", folder=machine.ssl)
    assert run("openssl", "pkey", "-in", "host.key", "-pubout", folder=machine.ssl) == certified
    assert (machine.ssl / "host.key").read_bytes() == key
    assert set(machine.snapshot()) == {"combined", "host.key", "host.pem"}


def test_links_are_followed_to_what_they_name(machine: Machine, server: AnswerServer) -> None:
    """A link in the place of a file stays a link; what it leads to is replaced."""
    elsewhere = machine.folder / "elsewhere"
    elsewhere.mkdir()
    (machine.ssl / "host.pem").symlink_to("../elsewhere/chain.pem")
    assert machine.run(machine.configure(server.url)).returncode == 0
    assert (machine.ssl / "host.pem").is_symlink()
    assert names_of((elsewhere / "chain.pem").read_bytes()) == {"host.example.org"}


def test_links_in_a_circle_end(machine: Machine, server: AnswerServer) -> None:
    """A link that leads to itself is an error, not an endless run."""
    (machine.ssl / "host.pem").symlink_to("host.pem")
    done = machine.run(machine.configure(server.url))
    assert done.returncode == 1
    assert "leads in a circle" in done.stderr


def test_a_full_disk_forgets_no_hook(machine: Machine, server: AnswerServer) -> None:
    """If it cannot be noted that hooks are due, nothing is replaced."""
    config = machine.configure(server.url, hook=machine.hook("hook", "echo hooked"))
    assert machine.run(config).returncode == 0
    before = machine.snapshot()
    (machine.state / "host" / "changed.new" / "x").mkdir(parents=True)
    done = machine.run(config)
    assert done.returncode == 1
    assert f"{machine.state}/host/changed cannot be written" in done.stderr
    assert machine.snapshot() == before
    (machine.state / "host" / "changed.new" / "x").rmdir()
    (machine.state / "host" / "changed.new").rmdir()
    assert "\nhooked\n" in machine.run(config).stdout


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a link of somebody else's")
def test_links_of_others_are_not_followed(machine: Machine, server: AnswerServer) -> None:
    """A link that another user made, in a directory of theirs, is not where root writes."""
    victim = machine.folder / "victim"
    victim.write_text("precious")
    (machine.ssl / "host.pem").symlink_to(victim)
    os.chown(machine.ssl / "host.pem", 65534, 65534, follow_symlinks=False)
    done = machine.run(machine.configure(server.url))
    assert done.returncode == 1
    assert f"{machine.ssl}/host.pem is a link that somebody else made" in done.stderr
    assert victim.read_text() == "precious"


def test_no_link_redirects_a_temporary_file(machine: Machine, server: AnswerServer) -> None:
    """A link with the name of the temporary file is removed, not written through."""
    victim = machine.folder / "victim"
    victim.write_text("precious")
    (machine.ssl / ".host.pem.acmems-new").symlink_to(victim)
    assert machine.run(machine.configure(server.url)).returncode == 0
    assert victim.read_text() == "precious"
    assert not (machine.ssl / "host.pem").is_symlink()


def test_no_link_that_comes_in_time_redirects_a_file(machine: Machine, server: AnswerServer) -> None:
    """Not even a link that is made right after the removal of a temporary file is written through."""
    victim = machine.folder / "victim"
    victim.write_text("precious")
    plant = f"/bin/ln -s {victim} {machine.ssl}/.host.pem.acmems-new"
    machine.replace("rm", f'{program("rm")} "$@"\ncase $* in *.host.pem.acmems-new*) {plant} ;; esac')
    done = machine.run(machine.configure(server.url))
    assert done.returncode == 1
    assert f"{machine.ssl}/host.pem cannot be written" in done.stderr
    assert victim.read_text() == "precious"


def test_an_older_chain_of_another_server_does_not_come_back(machine: Machine) -> None:
    """With two servers that store on their own, the chain that was issued later stays."""
    with answering(issued(left=80 * DAY)) as newer, answering(issued(left=20 * DAY)) as older:
        assert machine.run(machine.configure(newer.url)).returncode == 0
        before = machine.snapshot()
        done = machine.run(machine.configure(older.url))
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert machine.snapshot() == before
        (machine.ssl / "host.pem").unlink()
        assert machine.run(machine.configure(older.url)).returncode == 0
        assert (machine.ssl / "host.pem").exists()


def test_a_new_chain_that_ends_earlier_is_installed(machine: Machine) -> None:
    """After a change to certificates that last a week, the new one does not wait for the old one to end."""
    week = 7 * DAY

    def answer(csr: bytes) -> RawAnswer:
        return RawAnswer(body=issue(csr, left=week, lifetime=week))

    with answering(issued(), answer) as server:
        config = machine.configure(server.url)
        assert machine.run(config).returncode == 0
        assert machine.run(config).returncode == 0
    installed = x509.load_pem_x509_certificate((machine.ssl / "host.pem").read_bytes())
    assert installed.not_valid_after_utc - installed.not_valid_before_utc == week
