"""Tests that run in a network of their own, where they find ports 80 and 443.

`tests/integration/test_own_network.py` runs each of these modules; by itself pytest does not look for them.
"""
