"""How many requests a second a CA takes."""

from __future__ import annotations

import pytest

from acmems.issuers.acme.session.rates import RequestRates

LETS_ENCRYPT = ["acme-v02.api.letsencrypt.org", "acme-staging-v02.api.letsencrypt.org"]


class TestReserve:
    @pytest.mark.parametrize("host", LETS_ENCRYPT)
    def test_a_burst_and_then_a_stream(self, host: str) -> None:
        """Half a second's worth of requests goes out at once, the rest evenly at the published rate."""
        rates = RequestRates(host)
        waits = [rates.reserve("newNonce", 1000.0) for _ in range(100)]
        assert waits[:11] == [0.0] * 11
        assert waits[11:] == pytest.approx([0.05 * number for number in range(1, 90)])

    def test_processes_share_a_rate(self) -> None:
        """Each of several processes sends its part of what the CA takes from their address."""
        rates = RequestRates(LETS_ENCRYPT[0], processes=4)
        waits = [rates.reserve("newNonce", 1000.0) for _ in range(20)]
        assert waits[-1] - waits[-2] == pytest.approx(4 * 0.05)

    def test_no_second_has_more_than_the_ca_takes(self) -> None:
        """However requests arrive, no second sees more than a burst and a second's worth of them."""
        rates = RequestRates(LETS_ENCRYPT[0])
        sent: list[float] = []
        for number in range(400):
            now = 1000.0 + (number // 40) * 0.9  # crowds of forty
            sent.append(now + rates.reserve("newNonce", now))
        sent.sort()
        assert max(sum(at <= each < at + 1.0 for each in sent) for at in sent) <= 20 + 11

    def test_quiet_times_are_not_saved_up(self) -> None:
        """After an hour without requests no more go out at once than ever."""
        rates = RequestRates(LETS_ENCRYPT[0])
        for now in (1000.0, 4600.0):
            waits = [rates.reserve("newNonce", now) for _ in range(12)]
            assert waits == pytest.approx([0.0] * 11 + [0.05], abs=1e-9)

    def test_resources_are_apart(self) -> None:
        """What one resource has used up is not taken from another."""
        rates = RequestRates(LETS_ENCRYPT[0])
        for _ in range(100):
            rates.reserve("newNonce", 1000.0)
        assert rates.reserve("newAccount", 1000.0) == 0.0
        assert rates.reserve("newNonce", 1000.0) > 0.0

    @pytest.mark.parametrize(
        ("host", "resource"), [("ca.example", "newNonce"), (LETS_ENCRYPT[0], "renewalInfo")]
    )
    def test_what_nobody_published(self, host: str, resource: str) -> None:
        """Where a CA has published no limit nobody waits."""
        rates = RequestRates(host)
        assert {rates.reserve(resource, 1000.0) for _ in range(10_000)} == {0.0}
