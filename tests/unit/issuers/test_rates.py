"""How many requests a second a CA takes."""

from __future__ import annotations

import pytest

from acmems.issuers.acme.session.rates import RequestRates

PRODUCTION = "https://acme-v02.api.letsencrypt.org/directory"
STAGING = "https://acme-staging-v02.api.letsencrypt.org/directory"


class TestReserve:
    @pytest.mark.parametrize(
        ("directory", "resource", "per_second", "burst"),
        [
            (PRODUCTION, "newNonce", 20, 10),
            (PRODUCTION, "newAccount", 5, 15),
            (PRODUCTION, "newOrder", 300, 200),
            (PRODUCTION, "revokeCert", 10, 100),
            (PRODUCTION, "renewalInfo", 1000, 100),
            (PRODUCTION, "directory", 40, 40),
            (PRODUCTION, "finalize", 250, 125),
            (STAGING, "newNonce", 20, 10),
            (STAGING, "newOrder", 20, 40),
            (STAGING, "https://acme-staging-v02.api.letsencrypt.org/acme/authz/1", 20, 20),
        ],
    )
    def test_a_burst_and_then_a_stream(
        self, directory: str, resource: str, per_second: int, burst: int
    ) -> None:
        """What may come at once goes out at once, the rest evenly at the published rate."""
        rates = RequestRates(directory)
        waits = [rates.reserve(resource, 1000.0) for _ in range(burst + 100)]
        assert waits[: burst + 1] == pytest.approx([0.0] * (burst + 1), abs=1e-9)
        assert waits[burst + 1 :] == pytest.approx([number / per_second for number in range(1, 100)])

    def test_processes_share_a_rate(self) -> None:
        """Each of several processes sends its part of what the CA takes from their address."""
        rates = RequestRates(PRODUCTION, processes=4)
        waits = [rates.reserve("newNonce", 1000.0) for _ in range(20)]
        assert sum(each == 0.0 for each in waits) == 3, "a quarter of the burst, and the one to begin with"
        assert waits[-1] - waits[-2] == pytest.approx(4 * 0.05)

    def test_no_second_has_more_than_the_ca_takes(self) -> None:
        """However requests arrive, no second sees more than a burst and a second's worth of them."""
        rates = RequestRates(PRODUCTION)
        sent: list[float] = []
        for number in range(400):
            now = 1000.0 + (number // 40) * 0.9  # crowds of forty
            sent.append(now + rates.reserve("newNonce", now))
        sent.sort()
        assert max(sum(at <= each < at + 1.0 for each in sent) for at in sent) <= 20 + 11

    def test_quiet_times_are_not_saved_up(self) -> None:
        """After an hour without requests no more go out at once than ever."""
        rates = RequestRates(PRODUCTION)
        for now in (1000.0, 4600.0):
            waits = [rates.reserve("newNonce", now) for _ in range(12)]
            assert waits == pytest.approx([0.0] * 11 + [0.05], abs=1e-9)

    def test_resources_are_apart(self) -> None:
        """What one resource has used up is not taken from another; what has no rate of its own shares one."""
        rates = RequestRates(PRODUCTION)
        for _ in range(200):
            rates.reserve("newNonce", 1000.0)
            rates.reserve("finalize", 1000.0)
        assert rates.reserve("newAccount", 1000.0) == 0.0
        assert rates.reserve("newNonce", 1000.0) > 0.0
        assert rates.reserve("https://acme-v02.api.letsencrypt.org/acme/order/1", 1000.0) > 0.0

    def test_what_nobody_published(self) -> None:
        """Where a CA has published no limit nobody waits."""
        rates = RequestRates("https://ca.example/directory")
        assert {rates.reserve("newNonce", 1000.0) for _ in range(10_000)} == {0.0}
