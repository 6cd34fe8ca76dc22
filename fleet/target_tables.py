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
    Column("created", Float, nullable=False),
    Column("by", String(100), nullable=False, server_default=""),
)

# Batch jobs, and how they stood at the last look.
jobs = Table(
    "batch_jobs",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("target", ForeignKey(targets.c.name), nullable=False, index=True),
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
)
