"""What the TLS of front ends is configured by, and what it is made of."""

from __future__ import annotations
