"""What clients can do to us, and the tests that show what we do then."""

from __future__ import annotations

from collections.abc import Mapping

from tests.security_rows.row import Row

CSR = "tests/unit/x509/test_csr.py"
CSR_FORM = "tests/unit/x509/test_csr_form.py"
CSR_PROPERTIES = "tests/property/test_csr_properties.py"
NAMES = "tests/unit/x509/test_identifiers.py"
OPENSSL = "tests/integration/test_openssl_csrs.py"
KEYS = "tests/unit/x509/test_keys.py"
FRAMING = "tests/unit/net/test_framing.py"
CONNECTION = "tests/unit/net/test_connection.py"
ENDINGS = "tests/unit/net/test_connection_endings.py"
LISTENER = "tests/unit/net/test_listener.py"
ATTACKS = "tests/integration/test_http_attacks.py"
CSR_KEY = "tests/unit/x509/test_csr_key.py"
EXTENSIONS = "tests/unit/x509/test_extensions.py"
FORMATS = "tests/unit/x509/test_formats.py"
SIGN = "tests/integration/test_sign.py"
AUTH = "tests/unit/auth/test_auth.py"
GUESSING = "tests/unit/auth/test_guessing.py"
ISSUANCE = "tests/unit/issuing/test_issuance.py"
ORDER = "tests/unit/issuers/test_order.py"
ANSWERS = "tests/unit/issuers/test_responses.py"

ROWS: Mapping[str, tuple[Row, ...]] = {
    "Certificate signing requests": (
        Row(
            "no name at all, an empty subjectAltName",
            "415: that all names match says nothing where there are none",
            (f"{CSR}::TestNames::test_refused", f"{AUTH}::TestBlocks::test_no_names_are_not_all_names"),
        ),
        Row(
            "names that are neither DNS nor IP; an IP address that no block grants",
            "415, 403",
            (f"{CSR}::TestNames::test_refused", f"{AUTH}::TestBlocks::test_addresses_are_not_granted"),
        ),
        Row(
            "a common name and no subjectAltName",
            "the common name is the name, and the CA finalizes it or says what is missing",
            (
                f"{CSR}::TestAccepted::test_no_san",
                f"{ORDER}::TestObtain::test_a_common_name_that_the_ca_does_not_take",
                "tests/integration/test_one_liners.py::test_names_in_the_cn_alone",
            ),
        ),
        Row(
            "a subjectAltName and no common name",
            "accepted, as most requests are like that",
            (f"{CSR}::TestAccepted::test_names", f"{OPENSSL}::test_accepted"),
        ),
        Row(
            "common names that are not among the other names, or several",
            "each is a name like the others, and must be granted",
            (f"{CSR}::TestAccepted::test_names", f"{CSR_PROPERTIES}::test_names_round_trip"),
        ),
        Row(
            "capital letters",
            "made small before anything is compared or ordered",
            (f"{CSR}::TestAccepted::test_names", f"{NAMES}::TestDns::test_normal_form"),
        ),
        Row(
            "names that are no host names: too many dots, too long, odd characters, broken xn-- labels",
            "415",
            (f"{CSR}::TestNames::test_refused", f"{NAMES}::TestDns::test_refused"),
        ),
        Row(
            "a wildcard name",
            "403 before any order, unless a glob grants wildcards and the verification can prove them",
            (
                f"{AUTH}::TestBlocks::test_wildcards_need_dns",
                f"{NAMES}::TestGlobMatches::test_does_not_grant",
                f"{SIGN}::TestPolicy::test_one_block_must_accept_everything",
            ),
        ),
        Row(
            "a star that is not the whole first label, or two of them",
            "415",
            (f"{CSR}::TestNames::test_refused",),
        ),
        Row(
            "more names than allowed; one name several times",
            "415; once",
            (f"{CSR}::TestNames::test_refused", f"{CSR}::TestAccepted::test_names"),
        ),
        Row(
            "anything instead of one PEM request, or more beside it than text: keys, DER, BEGIN after BEGIN",
            "415 at once, and not a byte of it in the log",
            (
                f"{CSR_FORM}::TestPem::test_refused",
                f"{CSR_FORM}::TestPem::test_private_key",
                f"{FORMATS}::TestRefusals::test_what_it_is_and_what_to_do",
                f"{FORMATS}::test_long_bodies",
                f"{ATTACKS}::test_nothing_secret_is_logged",
            ),
        ),
        Row(
            "what parsers read differently: extensions or attributes twice or elsewhere, bytes left over",
            "415",
            (
                f"{CSR_FORM}::TestForm::test_refused",
                f"{EXTENSIONS}::TestExtension::test_refused",
                f"{EXTENSIONS}::TestForeignRequests::test_disagreement",
                f"{EXTENSIONS}::TestOtherAttributes::test_names_where_some_look_for_them",
                f"{CSR_PROPERTIES}::test_no_other_reading",
                "tests/unit/project/test_fuzz_targets.py::test_seeds",
            ),
        ),
        Row(
            "a parser that fails in whatever way",
            "415, never 500",
            (
                f"{CSR_KEY}::TestParserErrors::test_any_class_is_a_refusal",
                f"{CSR_PROPERTIES}::test_any_bytes",
                f"{CSR_PROPERTIES}::test_odd_extensions",
            ),
        ),
        Row(
            "a signature that does not fit",
            "415",
            (
                f"{CSR_KEY}::TestSignature::test_of_another_key",
                f"{CSR_KEY}::TestSignature::test_of_other_names",
                f"{CSR_PROPERTIES}::test_mutated_der",
            ),
        ),
        Row(
            "keys that public CAs refuse",
            "415; further curves by option",
            (
                f"{KEYS}::TestWeak::test_refused",
                f"{KEYS}::TestWeak::test_close_primes",
                f"{CSR_KEY}::TestKey::test_weak_key",
                f"{CSR_KEY}::TestKey::test_curves_by_option",
            ),
        ),
        Row(
            "CA:TRUE, critical extensions that nobody knows, acmeIdentifier, must-staple",
            "415; must-staple by option",
            (
                f"{EXTENSIONS}::TestExtension::test_other_kinds_of_certificates",
                f"{CSR}::TestMustStaple::test_refused",
                f"{CSR}::TestMustStaple::test_must_staple_by_option",
            ),
        ),
        Row(
            "the account's own key",
            "415",
            (
                f"{ISSUANCE}::TestProtection::test_the_accounts_key_gets_no_certificate",
                f"{SIGN}::TestRefusals::test_the_accounts_own_key_is_no_key_for_a_certificate",
            ),
        ),
    ),
    "HTTP": (
        Row(
            "a body without a length, or with a transfer coding",
            "411, 501, and the end of the connection",
            (
                f"{FRAMING}::TestLengths::test_no_length",
                f"{FRAMING}::TestLengths::test_transfer_codings",
                f"{FRAMING}::TestLengths::test_a_length_and_a_transfer_coding",
                f"{ATTACKS}::TestFraming::test_each_gets_its_status",
            ),
        ),
        Row(
            "lengths that are none, or two; blanks before colons; bare line ends",
            "400, and the end of the connection",
            (
                f"{FRAMING}::TestLengths::test_nothing_else_is",
                f"{FRAMING}::TestLengths::test_two_lengths",
                f"{FRAMING}::TestMalformed::test_what_is_not_http_is_refused",
                f"{FRAMING}::TestPackets::test_packets_do_not_matter",
                f"{ATTACKS}::TestFraming::test_each_gets_its_status",
            ),
        ),
        Row(
            "a body over max-size",
            "413 before it is read, for those who would be heard; 403 for all others",
            (
                f"{CONNECTION}::TestRefusals::test_a_body_over_the_limit_is_not_read",
                f"{AUTH}::TestProcessor::test_the_body_of_a_stranger_is_not_read",
                f"{ATTACKS}::TestBeforeTheBody::test_refusals",
            ),
        ),
        Row(
            "clients that are slow, silent, half gone, or do not read",
            "deadlines that nothing moves; socket and thread come back, and others are served meanwhile",
            (
                f"{ENDINGS}::TestDeadlines::test_a_silent_client",
                f"{ENDINGS}::TestDeadlines::test_a_slow_request",
                f"{ENDINGS}::TestDeadlines::test_a_client_that_does_not_read",
                f"{ENDINGS}::TestHangups::test_within_a_request",
                f"{LISTENER}::TestDeadlines::test_slow_clients",
                f"{LISTENER}::TestDeadlines::test_a_client_that_does_not_read",
            ),
        ),
        Row(
            "connections by the thousand",
            "a few threads, limits in total and for each address, the rest in the backlog",
            (
                f"{LISTENER}::TestLimits::test_an_attack_is_bounded",
                f"{LISTENER}::TestLimits::test_one_address_holds_few_places",
                f"{LISTENER}::TestServing::test_waiting_costs_no_thread",
                f"{LISTENER}::TestAcceptErrors::test_no_descriptors",
                f"{ATTACKS}::test_silent_connections_keep_nobody_out",
            ),
        ),
        Row(
            "clients that wait for a 100",
            "100 or the final error, at once",
            (
                f"{CONNECTION}::TestContinue::test_a_waiting_client_is_told_to_go_on",
                f"{CONNECTION}::TestContinue::test_a_waiting_client_hears_the_final_error_at_once",
                f"{ATTACKS}::TestBeforeTheBody::test_continue",
            ),
        ),
        Row(
            "too many headers, lines too long",
            "431, 414",
            (
                f"{FRAMING}::TestSizes::test_many_headers",
                f"{FRAMING}::TestSizes::test_a_line_of_70_kb",
                f"{FRAMING}::TestSizes::test_long_headers",
                f"{ATTACKS}::TestFraming::test_each_gets_its_status",
            ),
        ),
        Row(
            "other methods; /sign written in other ways",
            "405 with Allow; 404",
            (
                f"{ATTACKS}::TestFraming::test_other_methods",
                f"{ATTACKS}::TestFraming::test_each_gets_its_status",
                f"{SIGN}::TestRefusals::test_statuses",
            ),
        ),
        Row(
            "X-Forwarded-For",
            "nothing, unless a trusted proxy sends it; then its last hop that is no trusted proxy",
            (
                f"{AUTH}::TestClientAddress::test_forwarded_addresses",
                f"{ATTACKS}::TestForwardedFor::test_who_asks",
            ),
        ),
        Row(
            "line ends in names, in a CA's words, in header values",
            "never as they are in a header or in the log",
            (
                f"{ATTACKS}::test_the_cas_words_stay_words",
                "tests/unit/frontends/test_problems.py::test_reasons_are_one_line",
                f"{ANSWERS}::TestError::test_its_words_are_safe_to_log",
                f"{NAMES}::TestDns::test_reason_is_safe_to_print",
            ),
        ),
        Row(
            "the CA's port, asked by others: hosts, paths and methods of all kinds",
            "404 or 405, or 400 where it is not HTTP; tokens are keys of a table and never paths of files",
            (
                f"{ATTACKS}::TestChallenges::test_only_the_exact_place_answers",
                "tests/unit/frontends/test_sign.py::TestChallenges::test_exact_host_and_path",
                "tests/unit/challenges/test_http01.py::TestProof::test_a_token_that_is_not_base64url_is_refused",
            ),
        ),
    ),
    "Authentication": (
        Row(
            "an Authentication header that is not exactly as documented",
            "as good as none: 403",
            (
                f"{AUTH}::TestClaims::test_malformed_is_absent",
                "tests/property/test_hmac_properties.py::test_only_what_is_documented_is_a_claim",
                f"{ATTACKS}::TestAuthentication::test_one_refusal_for_all",
            ),
        ),
        Row(
            "a hash algorithm that is not on the list",
            "an error of the configuration; no name is looked up among attributes",
            (f"{AUTH}::TestBlocks::test_mistakes", f"{AUTH}::TestClaims::test_malformed_is_absent"),
        ),
        Row(
            "an empty secret, a block without a method or without a domain",
            "an error of the configuration",
            (
                f"{AUTH}::TestBlocks::test_mistakes",
                f"{AUTH}::TestMethods::test_a_fresh_hmac_method_accepts_nobody",
            ),
        ),
        Row(
            "the hash of one block, names or address of another",
            "403: one block must accept everything",
            (
                f"{AUTH}::TestProcessor::test_hash_of_one_block_names_of_another",
                f"{AUTH}::TestBlocks::test_every_method_must_accept",
                f"{SIGN}::TestPolicy::test_one_block_must_accept_everything",
            ),
        ),
        Row(
            "guessing, and measuring how long a refusal takes",
            "comparison in constant time, every method asked, one 403 for all reasons",
            (
                f"{GUESSING}::test_digests_are_compared_in_constant_time",
                f"{GUESSING}::test_every_method_is_asked",
                f"{ATTACKS}::TestAuthentication::test_one_refusal_for_all",
                f"{SIGN}::TestPolicy::test_refusals_look_alike",
            ),
        ),
    ),
}
