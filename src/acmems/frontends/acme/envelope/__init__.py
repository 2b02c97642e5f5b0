"""The envelope of ACME requests, a flattened JWS: read strictly by hand, then verified by joserfc.

Libraries for JWS accept what a stranger must not be allowed to send: an empty list of signatures, algorithms
that nobody has signed for, members twice. So what is read here is all that there is, and the library is only
given a key, an algorithm that fits it, and the bytes that were signed.
"""
