"""The accounts that a server orders with.

- `running`: all of them, each with its CA, its issuances, its limits and its pauses
- `founding`: how a server gets one
"""
