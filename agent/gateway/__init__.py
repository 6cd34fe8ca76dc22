"""The device's one scoring address: a process of its own that forwards to whatever serves a slot now.

Applications post to ``/<slot>/score`` and never learn about versions, swaps or the cloud. The agent tells this process
where to forward through one file (``table.py``, the only file of this folder that the agent imports); nothing else
passes between the two, so either can restart or be replaced while the other keeps working.

Reading order: ``table`` (what is agreed), ``routes`` (path -> slot), ``proxy`` (who is asked, in which order),
``relay`` (one request over one connection), then the parts they stand on.
"""
