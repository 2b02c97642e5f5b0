"""What those who ask and answer DNS for us, and who knock at our TLS, can do; and the tests that show it."""

from __future__ import annotations

from collections.abc import Mapping

from tests.security_rows.row import Row

ROWS: Mapping[str, tuple[Row, ...]] = {
    "Proving names": (
        Row(
            "a TSIG key that is wrong, or no key",
            "421 with server and record; the log says which key to correct",
            ("tests/integration/test_dns01_bind.py::TestKeys::test_a_wrong_key_is_told",),
        ),
        Row(
            "a DNS server that refuses, is not the primary, or has another zone",
            "421 with server, record and reason",
            (
                "tests/unit/challenges/test_dns01_dnsupdate.py::TestFailures::test_a_refused_update_is_told",
                "tests/unit/challenges/test_dns01_dnsupdate.py::TestFailures::test_a_server_of_other_zones_is_told",
            ),
        ),
        Row(
            "a DNS server that is dead, or goes away",
            "the next one is asked; where there is none, 421 that names it",
            (
                "tests/integration/test_dns01_bind.py::TestServers::test_the_second_server_does",
                "tests/integration/test_dns01_bind.py::TestServers::test_a_server_that_goes_away_is_told",
                "tests/integration/test_dns_left_behind.py::test_a_dead_server_is_told",
            ),
        ),
        Row(
            "an answer of a DNS server that is unsigned, badly signed, or nonsense",
            "not believed",
            (
                "tests/unit/challenges/test_dns01_dnsupdate.py::TestFailures::test_an_answer_without_a_signature_is_not_believed",
                "tests/unit/challenges/test_dns01_dnsupdate.py::TestFailures::test_an_answer_with_a_wrong_signature_is_not_believed",
                "tests/unit/challenges/test_dns01_dnsupdate.py::TestFailures::test_a_hostile_datagram_breaks_nothing",
            ),
        ),
        Row(
            "a CNAME of a challenge that leads in a circle, or into a zone of others",
            "refused before anything is changed",
            (
                "tests/unit/dns/test_zones.py::test_a_circle_is_told",
                "tests/unit/dns/test_zones.py::test_eight_cnames_are_followed_and_no_more",
                "tests/integration/test_dns01_bind.py::TestZones::test_a_foreign_zone_is_refused",
                "tests/integration/test_dns01_bind.py::TestZones::test_a_zone_that_is_not_configured_is_refused",
                "tests/unit/dns/test_zones.py::test_without_zone_no_name_of_others_is_followed_to_ours",
            ),
        ),
        Row(
            "kill -9 with a record in DNS, or a name that fails",
            "nothing stays in DNS, and records of others do",
            (
                "tests/integration/test_dns_left_behind.py::test_a_crash_leaves_nothing",
                "tests/integration/test_dns_left_behind.py::test_a_refused_proof_leaves_nothing",
            ),
        ),
        Row(
            "a hook that fails, hangs, or prints secrets",
            "killed with its children; 421 without its output; no secret in the log",
            (
                "tests/unit/challenges/test_dns01_exec.py::test_a_program_that_hangs_is_killed_with_its_children",
                "tests/integration/test_dns01_exec.py::test_a_hook_that_fails_is_the_clients_421",
                "tests/unit/challenges/test_dns01_exec.py::test_control_characters_of_the_output_are_not_logged",
            ),
        ),
        Row(
            "a DNS provider that is unknown, hangs, or refuses",
            "a configuration error; or killed and 421; never a secret in the log",
            (
                "tests/unit/challenges/test_dns01_provider.py::TestSection::test_bad_sections",
                "tests/unit/challenges/test_dns01_provider.py::TestHttpProvider::test_an_api_that_hangs_is_given_up",
                "tests/unit/challenges/test_dns01_provider.py::TestHttpProvider::test_a_wrong_key_is_told_and_never_shown",
                "tests/unit/challenges/test_dns01_provider.py::TestWorker::test_only_the_provider_is_called",
            ),
        ),
        Row(
            "hostile queries to the name server; zones of others; transfers; floods",
            "silence, FORMERR or REFUSED; sent to TCP, then silence; bounded memory",
            (
                "tests/property/test_nameserver_properties.py::test_any_bytes",
                "tests/unit/dns/test_answer.py::TestRefusals::test_refused",
                "tests/unit/dns/test_answer.py::TestRefusals::test_broken",
                "tests/unit/dns/test_service.py::test_over_the_rate",
                "tests/unit/dns/test_service.py::TestRates::test_memory_is_bounded",
                "tests/unit/dns/test_service.py::test_a_client_that_takes_no_answers",
            ),
        ),
        Row(
            "TLS clients that stall, come in crowds, or want another protocol",
            "closed within five seconds; an alert; no handshake",
            (
                "tests/unit/challenges/test_tls_alpn01.py::TestLimits::test_a_client_has_its_share",
                "tests/unit/challenges/test_tls_alpn01.py::TestLimits::test_a_stalled_handshake_is_closed_after_five_seconds",
                "tests/unit/challenges/test_tls_alpn01.py::TestHandshakes::test_others_get_an_alert",
                "tests/unit/challenges/test_tls_alpn01.py::TestHandshakes::test_what_is_no_hello_ends",
            ),
        ),
    ),
}
