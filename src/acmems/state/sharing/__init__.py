"""How servers share a state: who is alive, who works at what, and what all of them use.

- `nodes`: the servers
- `leases`: what one of them works at
- `shared_orders`: open orders, each under a lease
- `together`: the steps of many orders, each by one statement for all
- `accounts`: accounts and their keys
"""
