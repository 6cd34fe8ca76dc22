"""Signed commands: received, verified, followed once, and answered. Loaded when the first one comes.

``desk`` takes what comes and decides, ``rules`` has the reasons against a command, ``kept`` what must outlive the
agent, ``answers`` what goes back. Each command has a file of its own, named after it, with one function ``run``; what
all of them may use stands in ``parts``. ``wipe`` is what is left of the agent once a device was decommissioned.
"""
