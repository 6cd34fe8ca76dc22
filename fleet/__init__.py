"""The fleet server: which modules exist, which devices there are, and what should run where.

It decides and records; it can neither sign a module nor make a device run one that a team did not sign. Start reading
at ``rollouts/judge.py`` (when a rollout advances), ``orders.py`` (what a device is told) and ``app.py`` (the wiring).
"""
