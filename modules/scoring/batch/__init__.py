"""Many inputs through one module, once, to the end: ``python -m modules.scoring.batch``.

Read in this order: ``items`` (what is asked), ``ledger`` (what is known of each, on disk), ``schedule`` (who is next),
``child`` (the scoring server that is asked, the very one that serves), ``run`` (all of it together), ``results``.
"""
