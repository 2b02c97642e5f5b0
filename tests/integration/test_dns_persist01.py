"""dns-persist-01 at a real CA: a record that stays, and nothing that changes."""

from __future__ import annotations

from pathlib import Path

from tests.peers import Acmems, ChallTestSrv, Settings, curl_sign, make_key_and_csr, names_of

PERSIST = """
[verification "persist"]
type = dns-persist01
resolver = {dns}
"""
AUTH = """
[auth "anyone"]
all = yes
domain = stays.example.org
domain = *.stays.example.org
"""


def test_a_record_that_stays(settings: Settings, dns: ChallTestSrv, tmp_path: Path) -> None:
    """What is missing for a name, then for its wildcard, is told word by word; created so, it proves both."""
    settings.verification = PERSIST.format(dns=dns.address)
    settings.auth = AUTH
    names = ["stays.example.org", "*.stays.example.org"]
    with Acmems(settings) as acmems:
        _, csr = make_key_and_csr(tmp_path, names)
        refused = curl_sign(acmems.sign_url, csr)
        assert refused.status == 421
        record, _, text = refused.text.partition(', or it has ended: it must be "')
        assert record.endswith("_validation-persist.stays.example.org")
        value = text.partition('"')[0].removesuffix("; policy=wildcard")
        host = "_validation-persist.stays.example.org."
        try:
            dns.post("set-txt", host=host, value=value)
            _, csr = make_key_and_csr(tmp_path, names)
            refused = curl_sign(acmems.sign_url, csr)
            assert refused.status == 421
            assert f'it must be "{value}; policy=wildcard"' in refused.text
            dns.post("clear-txt", host=host)
            dns.post("set-txt", host=host, value=f"{value}; policy=wildcard")
            for _ in range(2):
                _, csr = make_key_and_csr(tmp_path, names)
                reply = curl_sign(acmems.sign_url, csr)
                assert reply.status == 200, reply.text
                assert names_of(reply.body) == set(names)
        finally:
            dns.post("clear-txt", host=host)
