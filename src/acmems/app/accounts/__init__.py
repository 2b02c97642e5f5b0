"""What a server orders with: accounts at ACME CAs, and CAs of one's own.

- `running`: all of them, each with its issuances, its limits and its pauses
- `account`, `local_ca`: one of each kind, behind the same contract
- `contract`: that contract
- `identities`: whose chains they order
- `founding`: how a server gets an account
"""
