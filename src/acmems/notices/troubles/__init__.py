"""What there is to tell.

- `overdue`: renewals that fail, put together by what stands in their way
- `reasons`: whether two reasons are the same
- `sightings`: what orders tell of the CA and the account
- `week`: the summary of a week
"""
