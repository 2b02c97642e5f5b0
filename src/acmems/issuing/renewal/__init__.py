"""When certificates are renewed.

- `due`: the moment at which a chain is to be renewed, and when its CA is asked about that again
- `planner`: plans, asks and orders
- `times`: which chains are due, for those that deliver them
- `prior`: what was issued before for the same
"""
