"""What a module is, and nothing about who moves it.

The vocabulary, used with the same meaning everywhere:

- a **module** is one version of a model ready to run: a manifest and the files and image that it names by digest;
- its **reference** is ``team/name:version``; its **digest** is the sha256 of the manifest's bytes, and identifies it;
- a **blob** is any sequence of bytes named by sha256, with a **block index** that lets each 64 KiB be checked alone;
- a **slot** is a place on a device that one module fills at a time; applications address slots, never versions;
- an **order** says which modules should fill the slots of one device; a **report** says which do.

The core (files of this folder) is pure: bytes in, values out. ``trust/`` says what publishers signed, ``protocol/``
holds the wire documents, ``scoring/`` the server inside a module's container; the core knows none of them, and they do
not meet.
"""

__version__ = "0.1.0"
