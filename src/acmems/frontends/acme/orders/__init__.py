"""Orders of ACME clients (RFC 8555 section 7.4), from the names to the certificate.

Resources are steps, which run in the loop of the orders outside: so they read like code that waits, and no
thread waits.
"""
