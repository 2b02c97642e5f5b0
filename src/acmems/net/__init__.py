"""Sockets of clients: addresses, and the protocols that are spoken on them."""
