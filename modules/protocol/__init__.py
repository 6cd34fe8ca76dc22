"""The wire: every topic and every document that crosses the broker or the enrolment API.

A document is a msgspec Struct with a ``format`` field; its size is bounded before it is parsed; a golden file per
version in the tests keeps old devices and new servers talking. Signed documents travel in DSSE envelopes.
"""
