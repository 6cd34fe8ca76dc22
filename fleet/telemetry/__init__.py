"""What devices measure of themselves: taken in with their reports, the newest kept beside a history, and shown.

Nothing is decided by it. ``news.py`` says what a message changes, ``rows.py`` writes and reads rows, ``view.py`` makes
them what the API shows.
"""
