"""Certificates of ACME clients: sent, revoked, and when to renew them."""
