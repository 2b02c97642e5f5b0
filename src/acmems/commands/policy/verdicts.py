"""What each auth block says to a request that might be sent.

Each block is asked alone, by the code that answers `/sign`: the request is made as a client would send it,
and processed up to the point where the server would begin to look for a certificate.
"""

from __future__ import annotations

import datetime
import io
import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from acmems.auth import Block, Claim, HmacAuthMethod, Processor, read_request
from acmems.auth.methods import ClientCertificateMethod, ExternalAccountMethod, TokenAuthMethod
from acmems.auth.processor import ONLY_ACME
from acmems.config import Configuration
from acmems.exceptions import AccountError, AcmeException, PolicyRefusal
from acmems.frontends.problems import status_of
from acmems.issuers.acme.account import AccountDirectory
from acmems.issuing.contract import refuse_key_of_account
from acmems.net.address import IPAddress
from acmems.system.clock import SYSTEM
from acmems.x509.identifiers import Identifier, IdentifierType

HMAC, TOKEN, CLIENT_CERTIFICATE, EXTERNAL_ACCOUNT = "hmac", "token", "client-certificate", "external-account"
"""What `--method` calls what a client can show beside its address."""
METHODS = (HMAC, TOKEN, CLIENT_CERTIFICATE, EXTERNAL_ACCOUNT)

FORBIDDEN = status_of(PolicyRefusal())
_HOUR = datetime.timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Question:
    """A request that might be sent.

    Args:
        address: where it comes from.
        body: the CSR; None where it is asked only which blocks take a client.
        methods: what the client can show to each block that requires it.
    """

    address: IPAddress
    body: bytes | None
    methods: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BlockVerdict:
    """What one block says.

    Args:
        block: the block.
        reasons: why it does not grant the request; none if it does.
        status: of the answer, were it the only block; None if it grants the request.
    """

    block: Block
    reasons: tuple[str, ...] = ()
    status: int | None = None

    @property
    def grants(self) -> bool:
        """Whether the block grants the request."""
        return self.status is None


@dataclass(frozen=True, slots=True)
class Explanation:
    """What the policy says to a question.

    Args:
        question: the question.
        identifiers: the names of the CSR, as far as it can be read.
        fault: what is wrong with the CSR, whoever sends it.
        verdicts: what each block says, in the order in which they are tried.
    """

    question: Question
    identifiers: tuple[Identifier, ...]
    fault: AcmeException | None
    verdicts: tuple[BlockVerdict, ...]

    @property
    def is_granted(self) -> bool:
        """Whether the request is granted; where there is no CSR, whether a block takes the client."""
        return self.fault is None and any(each.grants for each in self.verdicts)

    @property
    def deciding(self) -> BlockVerdict | None:
        """The first block that grants the request: the one that counts."""
        if not self.is_granted or self.question.body is None:
            return None
        return next(each for each in self.verdicts if each.grants)

    @property
    def status(self) -> int | None:
        """The HTTP status of the refusal, None where there is none."""
        if self.is_granted:
            return None
        if self.fault is not None and any(each.status != FORBIDDEN for each in self.verdicts):
            return status_of(self.fault)
        return FORBIDDEN


def explain(config: Configuration, question: Question) -> Explanation:
    """Ask each block of a configuration what it says to a request.

    Args:
        config: the configuration.
        question: the request.
    """
    identifiers, fault = _examined(config, question)
    verdicts = tuple(_verdict(config, block, question, identifiers) for block in config.auth.blocks)
    return Explanation(question, identifiers, fault, verdicts)


def verifications(explanation: Explanation) -> Mapping[str, list[str]]:
    """Return the verifications that would prove each name of a request that is granted, best first.

    Args:
        explanation: what the policy says to the request.
    """
    if explanation.deciding is None:
        return {}
    validators = explanation.deciding.block.validators
    return {
        each.value: [validator.name for validator in validators if validator.proves(each)]
        for each in explanation.identifiers
    }


def _verdict(
    config: Configuration, block: Block, question: Question, identifiers: Sequence[Identifier]
) -> BlockVerdict:
    processor = _processor(config, block, question, identifiers)
    reasons = block.objections(processor.caller, question.body or b"")
    if block.proof.is_required:
        reasons.append(ONLY_ACME)
    if question.body is None:
        return BlockVerdict(block, tuple(reasons), FORBIDDEN if reasons else None)
    try:
        processor.grant()
    except PolicyRefusal as refusal:
        return BlockVerdict(
            block, (*reasons, *_refused_names(block, identifiers, processor)), status_of(refusal)
        )
    except AcmeException as error:
        reasons = ["it accepts the client, but not the CSR", *_refused_names(block, identifiers, processor)]
        return BlockVerdict(block, tuple(reasons), status_of(error))
    return BlockVerdict(block)


def _refused_names(block: Block, identifiers: Sequence[Identifier], processor: Processor) -> list[str]:
    """Return why a block does not grant names: of each name alone, or else of all of them together."""
    caller = processor.caller if block.may_accept(processor.caller) else None
    refusals = [block.refusal([each], caller) for each in identifiers]
    found = [refusal for refusal in refusals if refusal is not None]
    if identifiers and not found:
        together = block.refusal(identifiers, caller)
        return [] if together is None else [together]
    return found


def _processor(
    config: Configuration, block: Block, question: Question, identifiers: Sequence[Identifier]
) -> Processor:
    """Return what processes the request as if there were this block alone."""
    body = question.body or b""
    headers = {"Content-Length": str(len(body))}
    certificate, external_account = None, None
    block.refresh()
    for method in block.methods:
        if isinstance(method, HmacAuthMethod) and HMAC in question.methods and method.secret is not None:
            now = int(SYSTEM.now().timestamp())
            headers["Authentication"] = Claim.make(method.algorithm, method.secret, body, now).header
        elif isinstance(method, TokenAuthMethod) and TOKEN in question.methods and method.tokens:
            headers["Authorization"] = f"Bearer {method.tokens[0].reveal()}"
        elif isinstance(method, ClientCertificateMethod) and CLIENT_CERTIFICATE in question.methods:
            certificate = _client_certificate(method.sample(identifiers))
        elif isinstance(method, ExternalAccountMethod) and EXTERNAL_ACCOUNT in question.methods:
            external_account = method.kid
    processor = Processor(
        replace(config.auth, blocks=(block,)),
        (str(question.address), 0),
        headers,
        io.BytesIO(body),
        certificate=certificate,
    )
    processor.caller = processor.caller.of_account(external_account)
    return processor


def _client_certificate(identifiers: Sequence[Identifier]) -> bytes:
    """Return a certificate for these names, valid now, as a client would show it."""
    shown = identifiers or (Identifier(IdentifierType.DNS, "client.invalid"),)
    names = [
        x509.DNSName(each.value)
        if each.type is IdentifierType.DNS
        else x509.IPAddress(ipaddress.ip_address(each.value))
        for each in shown
    ]
    key, now = ec.generate_private_key(ec.SECP256R1()), SYSTEM.now()
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(x509.Name([]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _HOUR)
        .not_valid_after(now + _HOUR)
        .add_extension(x509.SubjectAlternativeName(names), critical=True)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.DER)
    )


def _examined(
    config: Configuration, question: Question
) -> tuple[tuple[Identifier, ...], AcmeException | None]:
    """Return the names of the CSR, and what the server would refuse about it, whoever sends it."""
    if question.body is None:
        return (), None
    identifiers: tuple[Identifier, ...] = ()
    headers = {"Content-Length": str(len(question.body))}
    try:
        Processor(config.auth, (str(question.address), 0), headers, io.BytesIO()).content_length()
        request = read_request(question.body, config.auth.rules)
        identifiers = request.identifiers
        for account in config.accounts.values():
            refuse_key_of_account(request, _account_key_digest(account.dir))
    except AcmeException as fault:
        return identifiers, fault
    return identifiers, None


def _account_key_digest(path: Path) -> str | None:
    """Return the digest of the account's public key; None where there is none that can be read."""
    try:
        return AccountDirectory(path).load_key().digest
    except (AccountError, OSError):
        return None
