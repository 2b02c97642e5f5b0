"""When certificates are renewed.

- `due`: the moment at which a chain is to be renewed, and when its CA is asked about that again
- `plan`: the plan for one chain, and what becomes of it
- `planner`: plans, asks and orders
- `times`: which chains are due, for those that deliver them
- `prior`: what was issued before for the same
"""
