"""acmems: one server that gets ACME certificates for machines that only have openssl and curl."""

__version__ = "1.0.0a1"
