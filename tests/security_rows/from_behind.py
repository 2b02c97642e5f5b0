"""What the disk and the CA behind us can do to us, and the tests that show what we do then."""

from __future__ import annotations

from collections.abc import Mapping

from tests.security_rows.row import Row

SIGN = "tests/integration/test_sign.py"
ACCOUNT = "tests/unit/issuers/test_account.py"
REGISTRAR = "tests/unit/issuers/test_registration.py"
FILES = "tests/unit/system/test_files.py"
STORAGE = "tests/unit/storages/test_file.py"
DAMAGE = "tests/unit/storages/test_damage.py"
DISK = "tests/integration/test_disk.py"
ISSUANCE = "tests/unit/issuing/test_issuance.py"
CHAIN = "tests/unit/x509/test_chain.py"
ORDER = "tests/unit/issuers/test_order.py"
AUTHORIZATION = "tests/unit/issuers/test_proving.py"
CA_FAULTS = "tests/integration/test_ca_faults.py"
SESSION_FAULTS = "tests/integration/test_session_faults.py"
LIFE = "tests/integration/test_life.py"
ANSWERS = "tests/unit/issuers/test_responses.py"
RETRIES = "tests/unit/issuers/test_retries.py"
TRANSPORT = "tests/unit/issuers/test_transport.py"

ROWS: Mapping[str, tuple[Row, ...]] = {
    "Disk": (
        Row(
            "a disk that is full or fails while a chain is stored",
            "the old file intact, the client served, an error logged, and storing tried again",
            (
                f"{FILES}::TestWriteAtomically::test_a_failing_step_changes_nothing",
                f"{STORAGE}::TestStore::test_a_full_disk",
                f"{ISSUANCE}::TestKept::test_a_full_disk_costs_no_certificate",
                f"{DISK}::test_a_certificate_that_cannot_be_kept_is_not_lost",
            ),
        ),
        Row(
            "a storage that cannot be written",
            "found before an order is placed: 503, and no certificate is wasted",
            (
                f"{STORAGE}::TestCheck::test_a_directory_that_cannot_be_written",
                f"{ISSUANCE}::TestKept::test_a_storage_that_cannot_be_written_costs_no_certificate",
                f"{DISK}::test_nothing_is_ordered_that_cannot_be_kept",
            ),
        ),
        Row(
            "something else in a chain's place",
            "a miss, moved aside and logged; never delivered, never 500",
            (f"{DAMAGE}::TestDamage::test_it_is_moved_aside", f"{DISK}::test_a_damaged_chain_is_replaced"),
        ),
        Row(
            "a key file that others can read, or a link",
            "refused at the start",
            (
                f"{FILES}::TestReadPrivate::test_open_to_others",
                f"{FILES}::TestReadPrivate::test_a_link",
                f"{ACCOUNT}::TestLoadKey::test_a_key_that_others_can_read",
                f"{ACCOUNT}::TestLoadKey::test_a_link",
                f"{LIFE}::TestLife::test_a_key_that_others_can_read_is_refused",
            ),
        ),
        Row(
            "another CA or account than before",
            "no chain of the one is delivered as the other's",
            (
                f"{STORAGE}::TestFind::test_another_origin",
                f"{STORAGE}::TestTree::test_whose_a_chain_is",
                f"{REGISTRAR}::TestKnown::test_an_account_of_another_ca",
            ),
        ),
    ),
    "The CA": (
        Row(
            "nonces refused, some or all",
            "success while it is possible, then 503 after a bounded number of tries",
            (
                f"{CA_FAULTS}::TestPassing::test_refused_nonces",
                f"{SESSION_FAULTS}::TestNonces::test_refused_nonces_do_not_show",
                f"{SESSION_FAULTS}::TestNonces::test_a_ca_that_refuses_every_nonce_is_unavailable",
            ),
        ),
        Row(
            "errors, resets, silence, halves, nonsense, endless answers, redirects",
            "limits of size and time, repeated only where safe; 502, 503 or 504, stored chains delivered",
            (
                f"{CA_FAULTS}::TestPassing::test_one_fault",
                f"{CA_FAULTS}::TestNonsense::test_answers_that_are_none",
                f"{CA_FAULTS}::TestNonsense::test_an_endless_answer",
                f"{CA_FAULTS}::TestNonsense::test_a_redirect",
                f"{TRANSPORT}::TestLimits::test_a_body_over_the_limit_is_refused",
                f"{RETRIES}::TestRepeating::test_what_may_have_been_done_is_not_repeated",
                f"{SESSION_FAULTS}::TestFaultsOfTheMoment::test_a_silent_ca_costs_no_more_than_the_deadline",
                f"{LIFE}::test_stored_chains_outlive_the_ca",
            ),
        ),
        Row(
            "429 and 503 with a Retry-After of any kind",
            "passed on within limits, and the CA is left alone",
            (
                f"{CA_FAULTS}::TestLimits::test_rate_limits",
                f"{CA_FAULTS}::TestLimits::test_an_overloaded_ca",
                f"{ANSWERS}::TestRetryAfter::test_seconds_and_dates_are_seconds_from_now",
                f"{RETRIES}::TestOverload::test_what_the_ca_said_to_one_holds_for_all",
            ),
        ),
        Row(
            "an order that stays in processing",
            "504 at the deadline, and the next request continues it",
            (
                f"{CA_FAULTS}::TestOnce::test_an_order_stuck_in_processing",
                f"{ORDER}::TestResume::test_an_open_order_is_continued",
            ),
        ),
        Row(
            "a connection that breaks during finalize",
            "the order is read; neither is it finalized twice nor another one placed",
            (
                f"{CA_FAULTS}::TestOnce::test_a_lost_answer_to_finalize",
                f"{ORDER}::TestLostAnswers::test_a_finalize_that_arrived",
                f"{ORDER}::TestLostAnswers::test_a_finalize_that_did_not_arrive",
            ),
        ),
        Row(
            "a name that cannot be validated, or not by this type of challenge",
            "421 with the CA's words, and no further try at once",
            (
                f"{SIGN}::TestRefusals::test_a_name_that_cannot_be_proved",
                f"{CA_FAULTS}::TestLimits::test_no_challenge_that_fits",
                f"{ISSUANCE}::TestProtection::test_a_name_is_spared_whoever_asks",
                f"{AUTHORIZATION}::TestProve::test_a_type_that_is_not_offered",
            ),
        ),
        Row(
            "a certificate for another key, other names, another time, or without its chain",
            "502; neither delivered nor stored",
            (
                f"{CHAIN}::TestVerify::test_other_key",
                f"{CHAIN}::TestVerify::test_other_names",
                f"{CHAIN}::TestVerify::test_not_yet_valid",
                f"{CHAIN}::TestVerify::test_expired",
                f"{CHAIN}::TestVerify::test_broken_chain",
                f"{ISSUANCE}::TestKept::test_a_certificate_for_other_names_is_not_delivered",
                f"{CA_FAULTS}::TestNonsense::test_another_certificate",
            ),
        ),
        Row(
            "an order for other names, URLs of another origin",
            "everything stops: 502",
            (
                f"{CA_FAULTS}::TestNonsense::test_documents",
                f"{ORDER}::TestParse::test_a_hostile_order",
                "tests/unit/issuers/test_session.py::TestSigning::test_nothing_is_sent_elsewhere",
            ),
        ),
        Row(
            "new terms; an account that the CA does not know, or has ended",
            "503 and a line that says what to do; neither a new key nor a new account by itself",
            (
                f"{CA_FAULTS}::TestLimits::test_a_forgotten_account",
                f"{LIFE}::test_changed_terms_are_told",
                f"{LIFE}::test_an_account_that_the_ca_forgot_is_not_replaced",
                f"{REGISTRAR}::TestKnown::test_an_account_that_is_not_valid",
            ),
        ),
    ),
}
