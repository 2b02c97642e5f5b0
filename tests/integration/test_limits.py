"""Limits of a CA, which a real server counts as the CA would, so that the CA refuses nothing."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.fault_proxy import FaultProxy
from tests.faults import NEW_ORDER
from tests.peers import Acmems, Settings, curl_sign, make_key_and_csr

LIMIT = """
[limit "orders an hour"]
count = 20
per = 1h
counts = orders
"""


def test_more_machines_than_the_ca_allows(proxy: FaultProxy, settings: Settings, tmp_path: Path) -> None:
    """Thirty ask at once where twenty are allowed: ten get 429 with the right time, unseen by the CA."""
    settings.account += "limits = orders an hour"
    settings.auth += LIMIT
    folders = [tmp_path / f"machine{number}" for number in range(30)]
    csrs = []
    for number, folder in enumerate(folders):
        folder.mkdir()
        csrs.append(make_key_and_csr(folder, [f"machine{number}.example.org"])[1])
    with Acmems(proxy.before(settings)) as acmems:
        with ThreadPoolExecutor(len(csrs)) as pool:
            answers = list(pool.map(lambda csr: curl_sign(acmems.sign_url, csr), csrs))
        assert Counter(each.status for each in answers) == {200: 20, 429: 10}
        refused = [each for each in answers if each.status == 429]
        for each in refused:
            assert b"orders an hour, 20 of 20 used; ask again after " in each.body
            # One more is free three minutes after the first of them was taken.
            assert 0 < int(each.headers["Retry-After"]) <= 180
        assert proxy.count(path=NEW_ORDER) == 20
        requests = len(proxy.seen)
        again = csrs[next(i for i, each in enumerate(answers) if each.status == 429)]
        assert curl_sign(acmems.sign_url, again).status == 429
        assert len(proxy.seen) == requests
        acmems.stop()
        acmems.start()
        assert curl_sign(acmems.sign_url, again).status == 429, "a restart forgets nothing"
        assert proxy.count(path=NEW_ORDER) == 20
