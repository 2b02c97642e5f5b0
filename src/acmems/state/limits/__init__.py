"""What CAs are not asked for now.

- `buckets`: how far the limits of CAs are used
- `learnt`: what CAs have told of their limits
- `pauses`: what is not tried again for a time, after failures
"""
