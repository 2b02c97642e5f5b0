"""Have a CA validate names by http-01, without getting a certificate for them.

usage: python validate.py CONFIG NAME...
"""

import functools
import http.server
import sys
import threading

from acmems.challenges import Http01
from acmems.config import Configuration
from acmems.exceptions import AcmeException
from acmems.manager import ACMEManager
from acmems.server import ACMEHTTPHandler


def main(path: str, *names: str) -> None:
    """Print each name that the CA has validated."""
    config = Configuration.load(path)
    validator = config.default_validator
    if not isinstance(validator, Http01):
        sys.exit(f"{path}: the default verification is not of type http01")

    manager = ACMEManager(config, connect=False)
    if not (config.account.dir / "account.pem").exists():
        manager.create_private_key()
    manager.connect()  # registers an account where the key has none

    address = validator.listeners[0]
    handler = functools.partial(ACMEHTTPHandler, validator)
    with http.server.ThreadingHTTPServer((address.host, address.port), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            for authorization in manager.acquire_domain_validations(validator, names):
                print(authorization.body.identifier.value)
        finally:
            server.shutdown()
            manager.close()


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except AcmeException as error:
        sys.exit(str(error))
