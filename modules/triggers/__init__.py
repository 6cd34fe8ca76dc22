"""What has a packaged model score without an HTTP client: a watched folder, or a topic of a broker.

Read in this order: ``settings`` (which, and where), ``paths`` (which file becomes which), ``receipts`` (what outlives a
crash), ``scorer`` (the scoring server beside it), ``inputs`` (one input, tried a bounded number of times), ``folder``
and ``topic``.
"""
