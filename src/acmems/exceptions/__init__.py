"""Every error of acmems, as a tree.

AcmeException
├── ConfigurationError            what `acmems check` reports
├── PayloadToLarge                the CSR is over `max-size`
├── PayloadInvalid                the body is not one well-formed, acceptable CSR
├── PolicyRefusal                 no auth block accepts the request
├── HttpRefusal                   a request refused by the HTTP rules alone
├── InvalidDomainName             the CA does not accept a name
├── NoChallengeMethodsSupported   no offered challenge fits the validator
├── ChallengeFailed               the CA could not validate a name
├── PreCheckFailed                the DNS says that the CA could not issue for a name
│   └── CaaRefusal                its CAA records do not allow it
├── AuthorizationNotYetProcessed  the CA is still deciding
├── AuthorizationNotYetRequested  the CA has not asked for the challenge yet
├── RateLimited                   the CA, or what protects it here, asks to wait
│   ├── LimitReached              a limit of the CA is used up, so that it was not asked
│   ├── NamesPaused               the CA takes no orders for a name until a person has acted
│   └── QueueFull                 too many requests wait for their order already
├── ClientGone                    the client had hung up before its order began
├── ActFailed                     what an operator has asked for could not be done
├── AccountError                  the account cannot be used
│   ├── LocalCaUnusable           the keys or certificates of a local CA cannot be used
│   └── NeedToAgreeToTOS          its terms of service are not accepted
├── DeadlinePassed                the time for an answer is over; asking again continues
├── ValidatorUnavailable          a DNS server or program that a validator needs fails
├── StorageUnavailable            chains cannot be read or kept
│   └── StateUnavailable          what must survive a crash cannot be read or kept
├── LeaseLost                     another server has taken over what this one was at
└── CAError                       the CA fails, or cannot be understood
    ├── CAUnavailable             it does not answer, or says it is overloaded
    │   ├── FateUnknown           a request was sent and its answer was lost
    │   └── ClocksDiffer          its clock and that of this server are too far apart
    ├── CAProblem                 it answered with a problem document
    ├── CAProtocolError           its answer breaks RFC 8555, or cannot be read
    │   ├── DirectoryUnusable     there is no ACME directory at its URL
    │   └── ChallengesUnknownStatus  a state that RFC 8555 does not know
    └── CertificateUnusable       it issued something other than what was asked for

The names and fields of the documented ones are published, with their spelling. Which HTTP status an error
is answered with is decided in one table, in `acmems.frontends.problems`.
"""

from __future__ import annotations

from acmems.exceptions.base import (
    AcmeException,
)
from acmems.exceptions.ca import (
    AccountError,
    CAError,
    CAProblem,
    CAProtocolError,
    CAUnavailable,
    CertificateUnusable,
    ChallengesUnknownStatus,
    ClocksDiffer,
    DirectoryUnusable,
    FateUnknown,
    LocalCaUnusable,
    NeedToAgreeToTOS,
)
from acmems.exceptions.names import (
    AuthorizationNotYetProcessed,
    AuthorizationNotYetRequested,
    CaaRefusal,
    ChallengeFailed,
    InvalidDomainName,
    NoChallengeMethodsSupported,
    PreCheckFailed,
)
from acmems.exceptions.requests import (
    ActFailed,
    ClientGone,
    ConfigurationError,
    HttpRefusal,
    PayloadInvalid,
    PayloadToLarge,
    PolicyRefusal,
)
from acmems.exceptions.waiting import (
    DeadlinePassed,
    LeaseLost,
    LimitReached,
    NamesPaused,
    QueueFull,
    RateLimited,
    StateUnavailable,
    StorageUnavailable,
    ValidatorUnavailable,
)

__all__ = [
    "AccountError",
    "AcmeException",
    "ActFailed",
    "AuthorizationNotYetProcessed",
    "AuthorizationNotYetRequested",
    "CAError",
    "CAProblem",
    "CAProtocolError",
    "CAUnavailable",
    "CaaRefusal",
    "CertificateUnusable",
    "ChallengeFailed",
    "ChallengesUnknownStatus",
    "ClientGone",
    "ClocksDiffer",
    "ConfigurationError",
    "DeadlinePassed",
    "DirectoryUnusable",
    "FateUnknown",
    "HttpRefusal",
    "InvalidDomainName",
    "LeaseLost",
    "LimitReached",
    "LocalCaUnusable",
    "NamesPaused",
    "NeedToAgreeToTOS",
    "NoChallengeMethodsSupported",
    "PayloadInvalid",
    "PayloadToLarge",
    "PolicyRefusal",
    "PreCheckFailed",
    "QueueFull",
    "RateLimited",
    "StateUnavailable",
    "StorageUnavailable",
    "ValidatorUnavailable",
]
