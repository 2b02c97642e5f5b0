"""What `scripts/fleet` runs: a fleet of certificates over a year, in simulated time.

- `plan`: what the command line asks for
- `ca`: a CA that counts, by the rules that Let's Encrypt publishes and not by the code of acmems
- `fleet`: the machines and their server, with the planner, the ledger and the state of acmems
- `state`: where that keeps what it knows
- `outcome`: what has come of it
- `report`, `plots`: what a person reads
"""
