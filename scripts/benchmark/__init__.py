"""What `scripts/bench` runs: acmems beside a floor and a rival, in figures that are ratios within one run.

- `floor`: a bare ACME client that makes the fewest round trips, which no server can be faster than
- `rival`: macen, a server for the same job, in a process and an environment of its own
- `load`: the client that asks acmems and macen alike
- `jobs`: how those clients, processes of their own, are told what to do
- `herd`: a client that is ten thousand machines
- `stage`: the contenders, each with a CA of its own
- `slowed`: processes that get a share of a processor
- `figures`: what is measured, `targets`: what is hoped for, `report`: what a person reads
"""
