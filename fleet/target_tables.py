"""The tables of cloud targets and endpoints (fleet/targets/); as fleet/tables.py."""

from sqlalchemy import Column, Float, ForeignKey, Integer, LargeBinary, String, Table, Text

from fleet.schema import metadata

# Where endpoints can live.
targets = Table(
    "targets",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("kind", String(16), nullable=False),  # "container" or "kubernetes"
    Column("attached", Text, nullable=False),  # how it is reached, in JSON
    Column("trouble", Text, nullable=False, server_default=""),  # why it cannot be reached; empty: nothing is known
    Column("price_per_hour", Float, nullable=False, server_default="0"),  # of a replica, as the operator says; 0: none
    Column("price_per_1000", Float, nullable=False, server_default="0"),  # of requests that are answered there; 0: none
    Column("quota", Text, nullable=False, server_default="{}"),  # what each team may have there, in JSON
    # what was found there that no row speaks of, and since when, in JSON
    Column("strays", Text, nullable=False, server_default="{}"),
    Column("created", Float, nullable=False),
    Column("by", String(100), nullable=False, server_default=""),
)

# What is wished for, and how it stood at the last look.
endpoints = Table(
    "endpoints",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("target", ForeignKey(targets.c.name), nullable=False, index=True),
    Column("team", String(63), nullable=False),  # whose modules it serves
    Column("generation", Integer, nullable=False),  # of the wish: one more with each change
    Column("wish", Text, nullable=False),
    Column("secrets", LargeBinary, nullable=False),  # keys, token secret and TLS key, encrypted by the server
    Column("port", Integer, nullable=False, server_default="0"),  # where it listens, once it has
    Column("state", String(16), nullable=False),
    Column("since", Float, nullable=False),  # of the state
    Column("standing", Text, nullable=False),
    Column("seen_generation", Integer, nullable=False, server_default="0"),  # of the wish that was looked at
    # How many replicas of the default version run; 0: the endpoint stands still; None: as many as are wished for.
    Column("scale", Integer),
    Column("scale_why", Text, nullable=False, server_default=""),
    Column("admitted", Integer, nullable=False, server_default="0"),  # the newest rollout whose devices come in
    Column("counted", Float),  # until when its replicas' time is among its costs; None: it never was
    Column("tally", Text, nullable=False, server_default=""),  # what it serves (fleet/fallbacks/tallies.py)
    Column("rollout", Integer),  # the newest that decides about its versions; None: whoever changes them does
    Column("created", Float, nullable=False),
    Column("by", String(100), nullable=False, server_default=""),
)

# An endpoint's requests in a rollout: each wave gives the new version a share of them (fleet/rollouts/requests.py).
shares = Table(
    "shares",
    metadata,
    Column("rollout", ForeignKey("rollouts.id"), primary_key=True),
    Column("wave", Integer, primary_key=True, autoincrement=False),
    Column("percent", Integer, nullable=False),  # what the new version gets, once this wave is open
    Column("standing", String(16), nullable=False),
    Column("phase", String(32), nullable=False),
    Column("due", Float),  # until when it must have come to an end; None: nothing is waited for
    Column("note", Text, nullable=False, server_default=""),
    Column("detail", LargeBinary),  # SlotReport, as a device would have it
    Column("watch", LargeBinary),  # what is being counted (fleet/rollouts/windows.py)
)

# Batch jobs, and how they stood at the last look.
jobs = Table(
    "batch_jobs",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("target", ForeignKey(targets.c.name), index=True),  # this or ``device``
    Column("team", String(63), nullable=False),  # whose module it asks
    Column("module", String(300), nullable=False),
    Column("digest", String(71), nullable=False),
    Column("mark", String(16), nullable=False),  # tells it from an earlier one of the same name
    Column("asked", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("since", Float, nullable=False),  # of the state
    Column("standing", Text, nullable=False),
    Column("on_target", Integer, nullable=False, server_default="1", index=True),  # 1: something may be left there
    Column("created", Float, nullable=False),
    Column("by", String(100), nullable=False, server_default=""),
    # On a device: which, and the commands by which it was told to begin and to end (fleet/targets/device_jobs.py).
    Column("device", String(63), index=True),
    Column("begun_by", String(32), nullable=False, server_default=""),
    Column("ended_by", String(32), nullable=False, server_default=""),
    # What those that were asked for together are called (fleet/targets/batches.py); None: it was asked for alone.
    Column("batch", String(63), index=True),
)
