"""What is told to operators: what was told already, and what waits to be delivered.

- `causes`: what has been told, and is not over
- `outbox`: notices that are not delivered yet
- `sightings`: what orders have told of CAs and accounts
- `failing`: renewals that fail
- `week`: what a summary of some days is made from
"""
