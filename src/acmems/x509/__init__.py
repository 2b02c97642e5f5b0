"""Identifiers, certificate requests, keys and chains: rules without I/O."""
