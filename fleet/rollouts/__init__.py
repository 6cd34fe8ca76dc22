"""Rollouts: from devices and a policy to waves, from reports to a verdict, from a verdict to orders.

``planner`` and ``judge`` decide and touch nothing; ``engine`` loads, asks them, and applies in one transaction.
"""
