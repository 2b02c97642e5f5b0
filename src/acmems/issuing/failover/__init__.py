"""Several CAs: the first of an auth block's list that works and issues what is asked for.

- `skipping`: which failures say something about a CA, and nothing about the request
- `preparing`: the way of names that are to be proved before there is a CSR
- `issuances`: the issuances of all accounts, and the way of a request from one to the next
"""
