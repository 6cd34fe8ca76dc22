"""How a pod gets its module: ``python -m agent.content``, an init container that ends before the scoring server starts.

It is told what to fetch by ``modules/protocol/content.py``, asks the fleet server (``door.py``), and verifies with what
a device verifies with, down to each block (``bring.py``). It remembers nothing and talks to nobody else.
"""
