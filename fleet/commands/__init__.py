"""Commands to devices: given, sent until they are answered, and what was answered.

``given.py`` signs them and writes them down, ``sending.py`` is the leader's duty and ``due.py`` its rows, ``taken.py``
takes answers in with everything else that devices say, and ``view.py`` is what the API shows.
"""
