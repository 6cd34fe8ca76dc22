"""What the device measures of itself as it goes: taken at times, kept on disk, sent within a budget.

Loaded only where the settings ask for it. ``looks.py`` reads figures, ``kept.py`` keeps them until the server has them,
``budget.py`` says when bytes may be sent, and ``duty.py`` is the task that does all of it.
"""
