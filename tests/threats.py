"""What may go wrong, and what must happen then.

The tests that show it carry `pytest.mark.threat(section, case, ...)`. `pytest --threats` counts them, and
fails where a case has none, or where none of them has a status that is expected here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

THREATS: Mapping[str, Mapping[str, str]] = {
    "csr": {
        "no names": "415: that all names match says nothing where there are none",
        "names other than DNS names": "415, and 403 for an IP address that no block grants",
        "a common name and no SAN": "the common name is the name; 415 where the CA wants a SAN",
        "a SAN and no common name": "200: most requests are like that",
        "common names beside the SAN": "each is a name like the others: 403 unless it is granted",
        "capital letters": "200: made small before anything is compared or ordered",
        "names that are no host names": "415",
        "wildcards": "403 before any order, unless a glob grants them and the verification can prove them",
        "a star elsewhere than in front": "415",
        "too many names, or one twice": "415, and 200 for the one",
        "anything but one PEM request": "415, and not a byte of it in the log; 200 with text around",
        "what parsers read differently": "415: extensions or attributes twice or elsewhere, bytes left over",
        "a parser that fails": "415, whatever it raised",
        "a wrong signature": "415",
        "weak keys": "415; further curves by option",
        "extensions that ask for more": "415; must-staple by option",
        "the account's own key": "415",
    },
    "http": {
        "no length": "411, and the end of the connection; 501 for a transfer coding other than chunked",
        "chunked bodies": "taken up to the limit, then 413; 400 beside a length, or malformed",
        "malformed requests": "400, and the end of the connection",
        "a body over max-size": "413 before it is read; 403 for those who may not ask at all",
        "slow clients": "408 at deadlines that nothing moves; the others are served meanwhile",
        "handshakes that do not end": "closed at the deadline of a request; bounded, and no thread waits",
        "crowds": "few threads, limits in total and for each address, the rest in the backlog",
        "clients that wait for 100 Continue": "100 or the final error, at once",
        "long lines, many headers": "414, 431",
        "other methods and paths": "405 with Allow; 404",
        "X-Forwarded-For": "403 unless a trusted proxy sends it; then its last hop that is no trusted proxy",
        "revoked client certificates": "401 by EST, as for none, for those that were issued here",
        "line ends in words of others": "never as they are in a header or in the log",
        "strangers at the address of metrics": "200, or 503 without paths and reasons; 404, 405; at no cost",
        "strangers at the CA's port": "404, 405, or 400; tokens are keys of a table and never paths of files",
    },
    "auth": {
        "a malformed Authentication header": "403: as good as none",
        "other hash algorithms": "a configuration error; no name is looked up among attributes",
        "blocks without secret, method or domain": "a configuration error",
        "the hash of one block, names of another": "403: one block must accept everything",
        "a request that is replayed": "403 with hmac-fresh, once its time is over or from another address",
        "the answer to another one's request": "404, as for one that is not there; 200 for equals",
        "guessing and timing": "one 403 for all reasons; all methods are asked, in constant time",
    },
    "disk": {
        "a disk that is full": "200, and the old file intact; an error is logged, storing tried again",
        "a storage that cannot be written": "503 before an order is placed",
        "a state that cannot be written": "503 before an order is placed; 200 for what is stored",
        "a damaged state": "refused at the start, with words",
        "something else in a chain's place": "200 with a new chain; what was there is moved aside and logged",
        "a key file open to others, or a link": "refused at the start",
        "another CA or account than before": "no chain of the one is delivered as the other's",
    },
    "ca": {
        "refused nonces": "200 while it is possible, then 503 after a bounded number of tries",
        "broken answers": "502, 503 or 504; only repeated where safe; stored chains are delivered",
        "Retry-After": "429 or 503, passed on within limits, and the CA is left alone",
        "an order that stays in processing": "504 at the deadline; the next request continues it",
        "a finalize whose answer is lost": "200: the order is read, neither finalized twice nor placed again",
        "a name that cannot be validated": "421 with the CA's words, and no further try at once",
        "another certificate": "502; neither delivered nor stored",
        "a wrong clock": "nothing is ordered that would be thrown away, nothing stored or issued is lost",
        "another order, other origins": "502, and nothing further is sent",
        "new terms, lost accounts": "503, and the log says what to do; no new key, no new account",
    },
    "issuing": {
        "requests that hang and are abandoned": "200 for others, 429 for too many; most reach no CA",
        "thousands of requests to be fetched later": "few are kept of one client; those of others are served",
        "mistakes of others": "each failure stops those who would fail again: their CSR, name or block",
    },
    "proving": {
        "a wrong TSIG key": "421 with server and record; the log says which key to correct",
        "a DNS server that refuses": "421 with server, record and reason",
        "a DNS server that is dead": "the next one is asked; where there is none, 421 that names it",
        "a DNS answer that is forged or broken": "not believed",
        "a CNAME in a circle or to others": "refused before anything is changed",
        "a crash or a refusal with records in DNS": "421 for the refusal; no record stays",
        "a hook that fails or hangs": "421 without its output; killed with its children; no secret is logged",
        "a DNS provider that fails or hangs": "421, or a configuration error; killed; no secret is logged",
        "hostile queries to the name server": "silence, FORMERR, REFUSED, or TCP; bounded memory",
        "hostile TLS clients": "an alert, or closed within five seconds; others find a place",
    },
    "proving inside": {
        "names that lead to metadata, loopback or this server": "unauthorized; nothing is sent there",
        "a name that leads elsewhere each time": "connected to as it was judged",
        "redirects": "ten at most, to names, at the usual ports; never in a circle",
        "answers of 100 MB, or without end": "cut off after a few kB, or at the deadline",
        "reading what only this server can fetch": "nothing is told of what a redirect or a CNAME leads to",
        "a DNS in circles, or with huge answers": "dns, or incorrectResponse",
        "certificates that are nearly right": "incorrectResponse, or tls",
        "floods by one account": "it waits; others do not wait for it",
    },
    "ACME clients": {
        "JWS that parsers read differently": "malformed; members twice, extensions, other forms, two keys",
        "algorithms that do not fit": "badSignatureAlgorithm, also for none and for HMACs by public keys",
        "weak and broken keys": "badPublicKey",
        "requests for another URL": "401 unauthorized",
        "a nonce that was used": "badNonce, also at another server and after a crash",
        "nonces without end": "badNonce for older ones; memory is bounded",
        "the account of another": "unauthorized; nobody uses up the nonces of others either",
        "taking an account over by its key": "409 with its URL, or malformed",
        "an account that was ended": "401 at every server",
        "external accounts that are guessed or stolen": "403 unauthorized, the same for all reasons",
        "an external account used twice": "403 where the configuration forbids it",
        "huge requests": "413, 431",
        "floods of accounts": "429 with Retry-After; 403 for those whom no block could accept",
    },
    "acme orders": {
        "an order of too many names": "400 before anything is asked outside",
        "names of several blocks": "403: one block must grant client and names; the others are told apart",
        "what belongs to another account": "403: its order, authorizations, challenges and chains",
        "a request for other names": "400, one name more or fewer; the order stays ready",
        "names that were not proved": "403 at finalize where their auth block wants a proof by then",
        "two finalizes at once": "200 for one and 403 for the other, at one server or at two",
        "a kill while an order is processed": "200 with the certificate at the next look; the CA issues one",
        "orders that nobody finalizes": "they count as orders at the CA, and not as certificates",
        "revocation by others": "403, unless they have the key, or valid authorizations for all names",
    },
    "fair shares": {
        "thousands of connections": "whatever they do, other addresses are served; the largest loses first",
        "refusals without end": "refused addresses have few turns; lines are few, the rest is told in sums",
        "bodies that nobody has asked for": "bounded together; the address that has sent most loses, 503",
        "few descriptors": "those of management, the account and the disk are kept",
    },
}


def statuses(expected: str) -> frozenset[str]:
    """Return the HTTP statuses that stand in what is expected."""
    return frozenset(re.findall(r"\b[1-5][0-9][0-9]\b", expected))
