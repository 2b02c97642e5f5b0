"""Requests whose answer is fetched later (RFC 7240, `respond-async`).

- `preferences`: what a client prefers
- `deferrals`: the requests that are being worked at, and what is noted of them
- `waiting`: connections that wait for a while
- `deferring`: a request that is answered, after a while, by where its answer will be
- `fetching`: a request for such an answer
"""
