"""What a CA lets an account have in a time, counted as the CA counts it.

- `gcra`: one stored instant a bucket, and what may be taken out of it
- `limit`: limits as data: what they count, how much, and those of Let's Encrypt
- `charges`: what a request takes out of which buckets
- `domains`: the registered domain of a name
- `ledger`: reserves before an order, and gives back what was not used
- `room`: what new certificates leave to renewals
- `learnt`: limits that a CA has told of where it refused an order
- `costs`: what a request would take, for whoever asks before
- `accounting`: has the orders of an account count
"""
