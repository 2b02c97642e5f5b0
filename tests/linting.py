"""What pkilint finds in certificates and lists of revoked ones (RFC 5280; BR for lists)."""

from __future__ import annotations

from pkilint import loader, pkix
from pkilint.cabf import cabf_crl
from pkilint.pkix import certificate, crl, extension, name
from pkilint.validation import ValidationFindingSeverity, ValidationResult

# A name of one label is a name by RFC 1034 section 3.5, which RFC 5280 refers to; pkilint wants a dot.
_MISTAKEN = {"pkix.invalid_domain_name_syntax"}
_CERTIFICATE = certificate.create_pkix_certificate_validator_container(
    certificate.create_decoding_validators(name.ATTRIBUTE_TYPE_MAPPINGS, extension.EXTENSION_MAPPINGS),
    [
        certificate.create_issuer_validator_container([]),
        certificate.create_validity_validator_container(),
        certificate.create_subject_validator_container([]),
        certificate.create_extensions_validator_container([]),
        certificate.create_spki_validator_container([]),
    ],
)
_KIND = crl.CertificateRevocationListType.CRL
_CRL = crl.create_pkix_crl_validator_container(
    [
        pkix.create_attribute_decoder(name.ATTRIBUTE_TYPE_MAPPINGS),
        pkix.create_extension_decoder(extension.EXTENSION_MAPPINGS),
    ],
    [
        crl.create_issuer_validator_container([]),
        crl.create_validity_validator_container([cabf_crl.create_validity_period_validator(_KIND)]),
        crl.create_extensions_validator_container([]),
        cabf_crl.CabfCrlReasonCodeAllowlistValidator(_KIND),
    ],
)


def lint_certificate(der: bytes) -> list[str]:
    """Return what is wrong with a certificate; notices are no findings."""
    loaded = loader.RFC5280CertificateDocumentLoader().load_der_document(der)
    return _findings(_CERTIFICATE.validate(loaded.root))


def lint_crl(der: bytes) -> list[str]:
    """Return what is wrong with a list of revoked certificates."""
    loaded = loader.RFC5280CertificateListDocumentLoader().load_der_document(der)
    return _findings(_CRL.validate(loaded.root))


def _findings(results: list[ValidationResult]) -> list[str]:
    return [
        f"{found.finding.severity.name}: {found.finding.code}: {found.message}"
        for each in results
        for found in each.finding_descriptions
        if found.finding.severity < ValidationFindingSeverity.INFO and found.finding.code not in _MISTAKEN
    ]
