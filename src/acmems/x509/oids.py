"""Object identifiers as the contents octets of their DER, and what they are called."""

from __future__ import annotations

from acmems.x509 import der

COMMON_NAME = bytes.fromhex("550403")
SUBJECT_KEY_IDENTIFIER = bytes.fromhex("551d0e")
KEY_USAGE = bytes.fromhex("551d0f")
SUBJECT_ALT_NAME = bytes.fromhex("551d11")
BASIC_CONSTRAINTS = bytes.fromhex("551d13")
EXTENDED_KEY_USAGE = bytes.fromhex("551d25")
SERVER_AUTH = bytes.fromhex("2b06010505070301")
CLIENT_AUTH = bytes.fromhex("2b06010505070302")
TLS_FEATURE = bytes.fromhex("2b06010505070118")  # RFC 7633 section 4
ACME_IDENTIFIER = bytes.fromhex("2b0601050507011f")  # RFC 8737 section 6.1

EXTENSION_REQUEST = bytes.fromhex("2a864886f70d01090e")  # RFC 2985 section 5.4.2
MICROSOFT_EXTENSION_REQUEST = bytes.fromhex("2b06010401823702010e")
VERISIGN_EXTENSION_REQUEST = bytes.fromhex("6086480186f845010908")
MICROSOFT_ENROLMENT_PAIR = bytes.fromhex("2b0601040182370d0201")

RSA_ENCRYPTION = bytes.fromhex("2a864886f70d010101")
RSASSA_PSS = bytes.fromhex("2a864886f70d01010a")
EC_PUBLIC_KEY = bytes.fromhex("2a8648ce3d0201")
RSA_SHA256 = bytes.fromhex("2a864886f70d01010b")
RSA_SHA384 = bytes.fromhex("2a864886f70d01010c")
RSA_SHA512 = bytes.fromhex("2a864886f70d01010d")
ECDSA_SHA256 = bytes.fromhex("2a8648ce3d040302")
ECDSA_SHA384 = bytes.fromhex("2a8648ce3d040303")
ECDSA_SHA512 = bytes.fromhex("2a8648ce3d040304")

_NAMES = {
    COMMON_NAME: "commonName",
    SUBJECT_KEY_IDENTIFIER: "subjectKeyIdentifier",
    KEY_USAGE: "keyUsage",
    SUBJECT_ALT_NAME: "subjectAltName",
    BASIC_CONSTRAINTS: "basicConstraints",
    EXTENDED_KEY_USAGE: "extendedKeyUsage",
    TLS_FEATURE: "tlsfeature",
    ACME_IDENTIFIER: "acmeIdentifier",
    EXTENSION_REQUEST: "extensionRequest of PKCS #9",
    MICROSOFT_EXTENSION_REQUEST: "extension request of Microsoft",
    VERISIGN_EXTENSION_REQUEST: "extension request of VeriSign",
    MICROSOFT_ENROLMENT_PAIR: "enrolment name and value of Microsoft",
    RSASSA_PSS: "RSASSA-PSS",
    SERVER_AUTH: "serverAuth",
    CLIENT_AUTH: "clientAuth",
    # What requests are refused for, or hold often.
    bytes.fromhex("550405"): "serialNumber",
    bytes.fromhex("550406"): "countryName",
    bytes.fromhex("550407"): "localityName",
    bytes.fromhex("550408"): "stateOrProvinceName",
    bytes.fromhex("55040a"): "organizationName",
    bytes.fromhex("55040b"): "organizationalUnitName",
    bytes.fromhex("2a864886f70d010901"): "emailAddress",
    bytes.fromhex("551d2500"): "anyExtendedKeyUsage",
    bytes.fromhex("2b06010505070303"): "codeSigning",
    bytes.fromhex("2b06010505070304"): "emailProtection",
    bytes.fromhex("2b06010505070308"): "timeStamping",
    bytes.fromhex("2b06010505070309"): "OCSPSigning",
    bytes.fromhex("2b060104018237140202"): "smart card logon",
    bytes.fromhex("2b0601040182371902"): "security identifier of Microsoft",
    bytes.fromhex("551d1e"): "nameConstraints",
    bytes.fromhex("551d20"): "certificatePolicies",
    bytes.fromhex("551d24"): "policyConstraints",
    bytes.fromhex("551d36"): "inhibitAnyPolicy",
    bytes.fromhex("551d23"): "authorityKeyIdentifier",
    bytes.fromhex("551d1f"): "cRLDistributionPoints",
    bytes.fromhex("2b06010505070101"): "authorityInfoAccess",
    bytes.fromhex("6086480186f8420101"): "Netscape's certificate type",
    bytes.fromhex("2a864886f70d010104"): "RSA with MD5",
    bytes.fromhex("2a864886f70d010105"): "RSA with SHA-1",
    bytes.fromhex("2a864886f70d01010e"): "RSA with SHA-224",
    bytes.fromhex("2a8648ce3d0401"): "ECDSA with SHA-1",
    bytes.fromhex("2a8648ce3d040301"): "ECDSA with SHA-224",
    bytes.fromhex("2a8648ce380403"): "DSA with SHA-1",
    bytes.fromhex("2a8648ce380401"): "DSA",
    bytes.fromhex("2b6570"): "Ed25519",
    bytes.fromhex("2b6571"): "Ed448",
}

_BY_DOTTED = {
    der.dotted(identifier): f"{der.dotted(identifier)} ({name})" for identifier, name in _NAMES.items()
}


def display(identifier: bytes) -> str:
    """Return the dotted text of an object identifier, and its name where it has a known one."""
    return display_dotted(der.dotted(identifier))


def display_dotted(dotted: str) -> str:
    """Return the dotted text of an object identifier, and its name where it has a known one."""
    return _BY_DOTTED.get(dotted, dotted)
