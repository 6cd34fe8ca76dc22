"""The trust metadata (TUF): what publishers signed, which keys may sign what, and how a device comes to know it.

``roles`` names the roles and their bounds, ``metadata`` reads and seals one file, ``bins`` says how a large team's
files hang together. ``repository`` writes the offline part, the owner's and the teams', ``team_files`` all files of a
team; ``publication`` and ``team_update`` are the fleet server's part; ``device`` is what a device trusts, on
``client``, python-tuf's client as we set it up, and ``updater``, that client without its HTTP.
"""
