"""Orders whose names are proved before there is a CSR.

- `preparation`: what is asked for, and a preparation on its way
- `preparations`: those of one account
"""
