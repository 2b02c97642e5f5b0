"""`acmems show`."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import pytest
from tests.viewing import DAY, DIRECTORY, StateToLookAt

from acmems.commands.views.documents import rfc3339
from acmems.issuing.renewal.plan import first_plan
from acmems.state.acme.certificates import AccountCertificate, AccountCertificates
from acmems.state.chains import ChainRecord, ChainRecords
from acmems.state.chains.renewals import RenewalRecords
from acmems.x509 import csr
from acmems.x509.chain import parse_once


def facts(state: StateToLookAt, name: str) -> dict[str, str]:
    """Return the facts that plain lines have."""
    return {line[0]: line[1] for line in state.fields("show", name) if len(line) == 2}


def found(state: StateToLookAt, *options: str) -> Any:
    """Return what the document has, which is one."""
    code, document = state.document("show", *options)
    assert code == 0
    (one,) = document["found"]
    return one


def test_a_certificate(state: StateToLookAt) -> None:
    """All that is known of it is said."""
    record = state.keep("one", "a.example.org", days=60, client="192.0.2.7", reference="9f3a")
    told = facts(state, "a.example.org")
    assert told["names"] == "a.example.org"
    assert (told["state"], told["block"], told["issuer"]) == ("fresh", "web", DIRECTORY)
    assert (told["issued by"], told["key"]) == ("CN=a CA", "EC secp256r1")
    assert (told["serial"], told["fingerprint"]) == (record.serial, record.fingerprint)
    assert (told["not after"], told["storage"]) == (rfc3339(record.not_after), "disk")
    assert told["requested by"] == "192.0.2.7, reference 9f3a in the log"


def test_which_acme_accounts_have_got_it(state: StateToLookAt) -> None:
    """Accounts of ACME clients, beside the address that has asked."""
    record = state.keep("one", "a.example.org", days=60)
    assert "for account" not in facts(state, "a.example.org")
    assert found(state, "a.example.org")["acme_accounts"] == []
    for account in ("b", "a"):
        mine = AccountCertificate(record.fingerprint, account, "aki.serial", 0)
        state.database.write(functools.partial(AccountCertificates.put, certificate=mine)).result(20)
    assert facts(state, "a.example.org")["for account"] == "a, b"
    assert found(state, "a.example.org")["acme_accounts"] == ["a", "b"]


def test_when_it_is_renewed(state: StateToLookAt) -> None:
    """The plan, what the CA wants and why, and why it was not done."""
    record = state.keep("one", "a.example.org", days=60)
    assert "planned for" not in facts(state, "a.example.org")
    assert found(state, "a.example.org")["renewal_planned"] is None
    due = state.now + DAY
    plan = replace(
        first_plan(record, "aki.serial", state.now, 0.5),
        due=due,
        starts=state.now,
        ends=due + DAY,
        explanation="https://ca.example/why",
        reason="nobody has asked",
    )
    RenewalRecords(state.database).begin((), [plan]).result(20)
    told = facts(state, "a.example.org")
    assert (told["planned for"], told["which says"]) == (rfc3339(due), "https://ca.example/why")
    assert told["not renewed"] == "nobody has asked"
    document = found(state, "a.example.org")
    assert (document["window_start"], document["window_end"]) == (rfc3339(state.now), rfc3339(due + DAY))


@pytest.mark.parametrize("case", [str.lower, str.upper], ids=["lower", "upper"])
@pytest.mark.parametrize("by", ["serial", "fingerprint", "name"])
def test_what_it_is_found_by(state: StateToLookAt, by: str, case: Any) -> None:
    """A name, a serial number or a fingerprint, as openssl prints them."""
    record = state.keep("one", "a.example.org", "b.example.org")
    state.keep("two", "c.example.org")
    texts = {
        "serial": record.serial,
        "fingerprint": ":".join(record.fingerprint[at : at + 2] for at in range(0, 64, 2)),
        "name": "b.example.org",
    }
    assert found(state, case(texts[by]))["fingerprint"] == record.fingerprint


def test_history(state: StateToLookAt) -> None:
    """Others of the same names and key follow, and say what has become of them."""
    old = state.keep("one", "a.example.org", days=10)
    revoked = state.keep("one", "a.example.org", days=40)
    chains = ChainRecords(state.database)
    chains.revoking(revoked.fingerprint, "superseded").result()
    chains.revoked(revoked.fingerprint, state.now, "superseded").result()
    new = state.keep("one", "a.example.org", days=80)
    told = found(state, "a.example.org")
    assert told["serial"] == new.serial
    assert [(each["serial"], each["state"]) for each in told["history"]] == [
        (revoked.serial, "revoked"),
        (old.serial, "superseded"),
    ]
    lines = [line for line in state.fields("show", "a.example.org") if line[0] == "history"]
    assert [line[1] for line in lines] == [revoked.serial, old.serial]
    assert found(state, old.serial)["state"] == "superseded"


def test_an_open_order(state: StateToLookAt) -> None:
    """An order is shown where there is no certificate yet, and with the certificate that it renews."""
    url = state.place("new", "new.example.org")
    told = facts(state, "new.example.org")
    assert (told["names"], told["state"], told["open order"]) == ("new.example.org", "ordered", url)
    assert told["expires"] == rfc3339(state.now + DAY)
    state.keep("old", "old.example.org", days=20)
    url = state.place("old", "old.example.org")
    told = facts(state, "old.example.org")
    assert (told["state"], told["open order"]) == ("due, ordering", url)
    assert found(state, "old.example.org")["order"] == url


PAUSES = [
    ('name:["a.example.org", "https://ca"]', True),
    ('name:["x.example.org", "https://ca"]', False),
    ('block:["web", ["a.example.org"], "limit", "https://ca"]', True),
    ('block:["mail", ["a.example.org"], "limit", "https://ca"]', False),
    ('names:[["a.example.org"], "https://ca"]', True),
    ('names:[["a.example.org", "b.example.org"], "https://ca"]', False),
    ('verification:["a.example.org", ["http"], "https://ca"]', True),
    ('domain:["example.org", "https://ca"]', True),
    ('domain:["ple.org", "https://ca"]', False),
    ('everything:["https://ca"]', True),
    ('csr:["DIGEST", "https://ca"]', True),
    ('csr:["other", "https://ca"]', False),
    ("a text of a newer version", False),
]


@pytest.mark.parametrize(("subject", "concerns"), PAUSES, ids=[subject for subject, _ in PAUSES])
def test_pauses(state: StateToLookAt, subject: str, concerns: bool) -> None:
    """What holds it up is shown, and nothing else."""
    record = state.keep("one", "a.example.org")
    assert record.csr is not None
    digest = csr.parse(record.csr).content_digest
    state.pause(subject.replace("DIGEST", digest), "too many certificates")
    told = found(state, "a.example.org")["pauses"]
    assert [each["reason"] for each in told] == (["too many certificates"] if concerns else [])


def test_events(state: StateToLookAt) -> None:
    """The last ones about exactly these names, so that it is said why it failed."""
    state.place("new", "a.example.org", "b_.example.org".replace("_", "2"))
    names = ("a.example.org", "b2.example.org")
    for number in range(12):
        state.happen(number, "refused", 60 - number, names=names, reason=f"no {number}", status=421)
    state.happen(20, "refused", 1, names=("a.example.org",), reason="another")
    told = found(state, "a.example.org")["events"]
    assert [each["reason"] for each in told] == [f"no {number}" for number in range(2, 12)]
    lines = [line for line in state.fields("show", "a.example.org") if line[0] == "event"]
    assert lines[-1][-1] == "no 11"


def test_several(state: StateToLookAt, monkeypatch: pytest.MonkeyPatch) -> None:
    """Machines with keys of their own have certificates of their own for a name; each is shown."""
    for number in range(3):
        state.keep(f"machine {number}", "a.example.org", block=f"block {number}")
    _, document = state.document("show", "a.example.org")
    assert sorted(each["block"] for each in document["found"]) == ["block 0", "block 1", "block 2"]
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("NO_COLOR", "1")
    _, lines, _ = state.run("show", "a.example.org")
    assert [line for line in lines if " of 3 " in line] == [
        f"{number} of 3 with that name:" for number in (1, 2, 3)
    ]


class TestPem:
    """The chain itself."""

    def test_it_is_printed(self, state: StateToLookAt) -> None:
        """Whole, and nothing else."""
        record = state.keep("one", "a.example.org")
        code, lines, complaints = state.run("show", "--pem", "a.example.org")
        assert (code, complaints) == (0, "")
        assert parse_once("\n".join([*lines, ""]).encode()).pem == record.pem

    def test_which_one(self, state: StateToLookAt) -> None:
        """Where several could be meant, none is printed, and the message says how to tell them apart."""
        records: list[ChainRecord] = [state.keep(each, "a.example.org") for each in ("one", "two")]
        code, lines, complaints = state.run("show", "--pem", "a.example.org")
        assert (code, lines) == (1, [])
        assert "give a serial number instead" in complaints
        assert all(record.serial in complaints for record in records)

    def test_none_yet(self, state: StateToLookAt) -> None:
        """An order has no chain."""
        state.place("new", "new.example.org")
        code, lines, complaints = state.run("show", "--pem", "new.example.org")
        assert (code, lines) == (1, [])
        assert complaints == "acmems: there is no certificate of 'new.example.org' yet\n"


def test_there_is_none(state: StateToLookAt) -> None:
    """That is exit code 1 and a word."""
    code, lines, complaints = state.run("show", "a.example.org")
    assert (code, lines) == (1, [])
    assert complaints == "acmems: there is no certificate and no open order of 'a.example.org'\n"


def test_a_terminal(state: StateToLookAt, monkeypatch: pytest.MonkeyPatch) -> None:
    """Facts stand one below the other, times with how far off they are; tables have titles."""
    state.keep("one", "a.example.org", days=60)
    state.happen(1, "refused", 1, names=("a.example.org",), reason="no verification")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    _, lines, _ = state.run("show", "a.example.org")
    assert lines[0] == "names         a.example.org"
    assert any(line.startswith("not after     ") and line.endswith(" UTC, in 59 d") for line in lines)
    assert "What happened last:" in lines
    assert lines[-1] == "    no verification"


def test_asked_for_in_vain(state: StateToLookAt) -> None:
    """Where all tries have failed, that and why is said; it is exit code 1."""
    names = ("a.example.org", "b.example.org")
    state.happen(1, "refused", 9, names=names, block="web", reason="no such name")
    state.happen(2, "refused", 5, names=("aa.example.org",), reason="another")
    state.pause('block:["web", ["a.example.org", "b.example.org"], "failure", "https://ca"]', "no such name")
    code, document = state.document("show", "a.example.org")
    (told,) = document["found"]
    assert (code, told["state"], told["block"]) == (1, "none", "web")
    assert told["names"] == list(names)
    assert [each["reason"] for each in (*told["events"], *told["pauses"])] == ["no such name", "no such name"]
    code, lines, _ = state.run("show", "--pem", "a.example.org")
    assert (code, lines) == (1, [])
