"""What stands before a TCP port: who may ask, and TLS. For the scoring server and for the gateway of an endpoint."""
