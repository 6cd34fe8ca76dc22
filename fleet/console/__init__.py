"""The web console: pages for people, in the server's own process.

It knows the fleet by the API alone, which it asks with the session of whoever looks (``visit.py``): a page can show and
do nothing that its person could not. A file for each noun; ``frame.py`` is what all pages share.
"""
