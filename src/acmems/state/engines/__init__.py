"""The databases that a state can be kept in, behind one contract.

- `contract`: what the rest of `acmems.state` speaks to
- `sqlite`: one file, for the servers of one machine
- `soundness`: what makes such a file unusable, and what to do about it
- `postgresql`: a database of PostgreSQL, for any number of servers
- `connection`, `pool`: connections to that which never hang, and how long until the next attempt
- `copying`: backups of such a file, and what can be saved of a damaged one
- `group_commit`: changes that share transactions, for each engine
- `gathering`: changes of one kind that share statements
- `migrations`: the tables, as the steps from one revision to the next
- `places`: which file systems SQLite is safe on
"""
