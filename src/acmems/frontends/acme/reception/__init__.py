"""From a request as it comes to who has signed it: nonces, accounts, and the checks in their order."""
