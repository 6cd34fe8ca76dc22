"""Thousands of devices in one process, to try rollouts and to measure servers: ``python -m agent.simulate``.

They speak the product's own protocol, with the product's own code where it needs no store and no engine: they enrol,
connect, verify orders, pull and check blocks, and sign what they say. Only what becomes of a module is made up, by the
behaviour that the plan gives each of them.
"""
