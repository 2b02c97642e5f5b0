"""A CA of one's own, for names that no public CA issues: its rules, its files, and what it signs.

- `permits`: what a CA may issue for, which its certificates say as name constraints
- `options`: `[local-ca "NAME"]`
- `profiles`: what stands in its certificates and in its lists of revoked ones
- `authority`: its keys, which sign
- `files`: where these lie
- `issuer`: signs what policy has accepted
"""
