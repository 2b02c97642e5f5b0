"""What answers clients: the signing interface, the CA's http-01 requests, and what errors mean in HTTP."""
