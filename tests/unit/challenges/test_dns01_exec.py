"""The dns-01 validator that runs a program of the site."""

from __future__ import annotations

import logging
import os
import stat
import threading
import time
from pathlib import Path

import pytest

from acmems.challenges.context import ValidatorContext
from acmems.challenges.contract import Proof, Waiter
from acmems.challenges.dns01_exec import DnsExec
from acmems.challenges.txt import txt_value
from acmems.dns.client.propagation import Propagation
from acmems.exceptions import ValidatorUnavailable
from acmems.settings.findings import Finding
from acmems.settings.grammar import read_sections
from acmems.settings.options import Options
from acmems.system.clock import SYSTEM
from acmems.system.programs import AT_ONCE
from acmems.x509.identifiers import Identifier

RECORD = "_acme-challenge.www.example.org"
LONG = ".".join(["a" * 60] * 4)


def proof(name: str = "www.example.org", mark: str = "one") -> Proof:
    return Proof(Identifier.dns(name), mark, f"{mark}.thumbprint", lambda: None)


def value(mark: str = "one") -> str:
    return txt_value(f"{mark}.thumbprint")


def script(folder: Path, text: str) -> Path:
    path = folder / "hook.sh"
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(stat.S_IRWXU)
    return path


def validator(path: Path, *fixed: str, timeout: float = 30.0) -> DnsExec:
    return DnsExec("hook", [str(path), *fixed], Propagation("none"), timeout)


def from_text(text: str) -> tuple[DnsExec, list[str]]:
    findings: list[Finding] = []
    (section,) = read_sections('[verification "hook"]\n' + text, "a.ini", findings)
    options = Options(section, findings)
    made = DnsExec.from_options("hook", options, ValidatorContext())
    options.finish()
    return made, [finding.message for finding in findings]


def test_its_records_outlive_the_process_and_can_be_waited_for(tmp_path: Path) -> None:
    """Its records outlive the process, it can wait for them, and wildcards are proved but addresses not."""
    mine = validator(tmp_path / "hook")
    assert isinstance(mine, Waiter)
    assert (mine.leaves_traces, mine.sees_requests, mine.challenge_type) == (True, False, "dns-01")
    assert mine.proves(Identifier.dns("*.example.org"))
    assert not mine.proves(Identifier.ip("192.0.2.1"))
    mine.wait([proof()], SYSTEM.deadline(1), threading.Event())


def test_arguments_and_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program gets action, name and value twice over, after its fixed arguments, and little else."""
    monkeypatch.setenv("ACMEMS_TEST_SECRET", "hidden")
    seen = tmp_path / "seen"
    path = script(tmp_path, f'printf "%s|" "$@" >{seen}; env >>{seen}; cat >>{seen}')
    validator(path, "--key", "a b $HOME;").present([proof("*.example.org")])
    arguments, _, rest = seen.read_text().rpartition("|")
    assert arguments == f"--key|a b $HOME;|present|_acme-challenge.example.org|{value()}"
    variables = dict(line.split("=", 1) for line in rest.splitlines())
    assert {key: text for key, text in variables.items() if key.startswith("ACMEMS_")} == {
        "ACMEMS_ACTION": "present",
        "ACMEMS_NAME": "_acme-challenge.example.org",
        "ACMEMS_CHALLENGE": "_acme-challenge.example.org",
        "ACMEMS_VALUE": value(),
        "ACMEMS_DOMAIN": "example.org",
        "ACMEMS_VERIFICATION": "hook",
    }
    assert set(variables) <= {
        "PATH", "LANG", "HOME", "PWD", "SHLVL", "_",
        "ACMEMS_ACTION", "ACMEMS_NAME", "ACMEMS_CHALLENGE", "ACMEMS_VALUE", "ACMEMS_DOMAIN",
        "ACMEMS_VERIFICATION",
    }  # fmt: skip


def test_withdrawing_names_the_record(tmp_path: Path) -> None:
    """Withdrawing runs the program with `withdraw`, and not at all for names that have no record."""
    seen = tmp_path / "seen"
    path = script(tmp_path, f'echo "$@" >>{seen}')
    validator(path).withdraw([proof(LONG), proof()])
    assert seen.read_text() == f"withdraw {RECORD} {value()}\n"


def test_a_failure_names_program_record_and_code(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A code other than 0 is told without what the program wrote, which is logged at debug only."""
    path = script(tmp_path, "echo password=hunter2; echo more >&2; exit 3")
    caplog.set_level(logging.DEBUG)
    with pytest.raises(ValidatorUnavailable) as caught:
        validator(path).present([proof()])
    assert (
        str(caught.value) == f"the program hook.sh ended with code 3 when it should present record {RECORD}"
    )
    assert "command" in caught.value.advice
    assert "hunter2" not in caught.value.advice
    told = {(record.levelno, record.getMessage().rpartition(": ")[2]) for record in caplog.records}
    assert told == {(logging.DEBUG, "password=hunter2"), (logging.DEBUG, "more")}


@pytest.mark.threat("proving", "a hook that fails or hangs")
def test_control_characters_of_the_output_are_not_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Escape sequences do not reach the log, and of a long output only the start does."""
    path = script(tmp_path, "printf 'a\\033[31mb\\n'; yes | head -c 1000000")
    caplog.set_level(logging.DEBUG)
    validator(path).present([proof()])
    assert "\x1b" not in caplog.text
    assert sum(record.getMessage().endswith("wrote: y") for record in caplog.records) < 8192


def test_a_signal_is_told(tmp_path: Path) -> None:
    """A program that a signal ends has failed."""
    with pytest.raises(ValidatorUnavailable, match="signal 9"):
        validator(script(tmp_path, "kill -9 $$")).present([proof()])


def test_a_missing_program_is_told(tmp_path: Path) -> None:
    """A program that is not there, or may not be run, is an error that says so."""
    with pytest.raises(
        ValidatorUnavailable, match=rf"program gone cannot be started .* {RECORD}: No such file"
    ):
        validator(tmp_path / "gone").present([proof()])
    path = script(tmp_path, "true")
    path.chmod(stat.S_IRUSR)
    with pytest.raises(ValidatorUnavailable, match="Permission denied"):
        validator(path).present([proof()])


@pytest.mark.threat("proving", "a hook that fails or hangs")
def test_a_program_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    """At the time limit the whole group is killed, a grandchild that holds the output open included."""
    children = tmp_path / "children"
    path = script(tmp_path, f"sleep 1000 & echo $! >{children}; wait")
    with pytest.raises(ValidatorUnavailable, match="within 3 s"):
        validator(path, timeout=3).present([proof()])
    assert gone(int(children.read_text()))


def test_children_of_a_program_that_ended_are_killed(tmp_path: Path) -> None:
    """A program that ends is not waited for because of its children, and they end too."""
    children = tmp_path / "children"
    validator(script(tmp_path, f"sleep 1000 & echo $! >{children}")).present([proof()])
    assert gone(int(children.read_text()))


def test_records_of_one_name_come_one_after_the_other(tmp_path: Path) -> None:
    """A name and its wildcard are never changed by two programs at once; a failure stops neither."""
    seen = tmp_path / "seen"
    path = script(
        tmp_path,
        f"mkdir {tmp_path}/lock || exit 9; echo $3 >>{seen}; sleep 0.1; rmdir {tmp_path}/lock; exit 1",
    )
    with pytest.raises(ValidatorUnavailable, match="code 1"):
        validator(path).present([proof(mark="a"), proof("*.www.example.org", mark="b"), proof(mark="a")])
    assert seen.read_text().split() == [value("a"), value("b")]


def test_names_are_proved_at_the_same_time(tmp_path: Path) -> None:
    """Programs for different names run side by side: each waits here for the other."""
    path = script(
        tmp_path,
        f"touch {tmp_path}/$2; for i in $(seq 500); do [ $(ls {tmp_path} | grep -c _acme) = 2 ] && exit 0; "
        "sleep 0.02; done; exit 1",
    )
    validator(path).present([proof("a.example.org"), proof("b.example.org")])


def test_a_command_is_split_as_a_shell_does() -> None:
    """Words are split as by a shell, and the label decides about the type."""
    made, findings = from_text("command = /bin/hook 'a b' c\ntimeout = 5\nlabel = account\n")
    assert not findings
    assert made.command == ("/bin/hook", "a b", "c")
    assert (made.timeout, made.challenge_type) == (5.0, "dns-account-01")
    assert "a b" not in repr(made)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "needs 'command"),
        ("command = hook\n", "absolute path"),
        ("command =\n", "absolute path"),
        ("command = /bin/hook 'a\n", "quotes"),
        ("command = /bin/hook\ntimeout = 0\n", "number of seconds"),
    ],
)
def test_a_section_that_cannot_work_is_a_finding(text: str, reason: str) -> None:
    """What cannot work is a finding."""
    _, findings = from_text(text)
    assert any(reason in finding for finding in findings)


def gone(process: int) -> bool:
    """Tell whether a process ends soon; one that has ended and waits for init counts."""
    for _ in range(500):
        try:
            os.kill(process, 0)
            if Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z":
                return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.02)
    return False


def test_programs_of_all_orders_have_one_cap(tmp_path: Path) -> None:
    """However many orders and sections have names, no more programs run at once than the cap allows."""
    context = ValidatorContext()
    # Each program leaves a mark while it runs, and notes how many marks there are.
    path = script(
        tmp_path,
        f'touch {tmp_path}/running.$$; ls {tmp_path} | grep -c "^running" >>{tmp_path}/counts\n'
        f"sleep 0.1; rm {tmp_path}/running.$$",
    )
    sections = [DnsExec(name, [str(path)], Propagation(), slots=context.program_slots) for name in "ab"]
    proofs = [[proof(f"{order}-{number}.example.org") for number in range(4)] for order in range(8)]
    threads = [
        threading.Thread(target=sections[order % 2].present, args=(mine,))
        for order, mine in enumerate(proofs)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = [int(line) for line in (tmp_path / "counts").read_text().split()]
    assert len(counts) == 32
    assert max(counts) <= AT_ONCE


def test_a_section_shares_the_cap_of_its_configuration() -> None:
    """A section reads the variables that it names, and its programs wait for places of its configuration."""
    made, findings = from_text("command = /bin/true\nenvironment = A_B\nenvironment = C1\n")
    assert not findings
    assert made._variables == ("A_B", "C1")
    context = ValidatorContext()
    problems: list[Finding] = []
    (section,) = read_sections('[verification "hook"]\ncommand = /bin/true\n', "a.ini", problems)
    shared = DnsExec.from_options("hook", Options(section, problems), context)
    assert shared._slots is context.program_slots


def test_named_variables_are_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program gets the variables that its section names, if acmems has them, and no others."""
    monkeypatch.setenv("HOOK_TOKEN", "wanted")
    monkeypatch.setenv("OTHER_TOKEN", "hidden")
    path = script(tmp_path, f"env >{tmp_path}/seen")
    DnsExec("hook", [str(path)], Propagation(), variables=["HOOK_TOKEN", "NOT_SET"]).present([proof()])
    seen = (tmp_path / "seen").read_text()
    assert "HOOK_TOKEN=wanted\n" in seen
    assert "OTHER_TOKEN" not in seen
    assert "NOT_SET" not in seen


def test_what_is_no_variable_is_a_finding_without_its_text() -> None:
    """A value given in place of a name is not shown: it may be a secret."""
    _, (finding,) = from_text("command = /bin/true\nenvironment = TOKEN=hunter2\n")
    assert finding == "environment: must be the name of an environment variable"
