"""What runs in a worker process beside a user's entry script, under a name that no user's folder has.

It imports the standard library at its top, and a serving library only where the script needs it; nothing of edgefleet.
"""
