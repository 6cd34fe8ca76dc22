"""The tables of what people look at: selectors that they keep, and the fleet's health over time; as fleet/tables.py."""

from sqlalchemy import Column, Float, Integer, String, Table, Text

from fleet.schema import Large, metadata

# Selectors by name. An owner is "operator ID" or "token ID"; empty: everybody's.
saved_selectors = Table(
    "saved_selectors",
    metadata,
    Column("owner", String(40), primary_key=True),
    Column("name", String(63), primary_key=True),
    Column("selector", Text, nullable=False),
    Column("at", Float, nullable=False),
    Column("by", String(100), nullable=False),
)

# How many devices were in which state, at the beginning of each quarter of an hour (Unix seconds); only the newest.
health_counts = Table(
    "health_counts",
    metadata,
    Column("at", Large, primary_key=True, autoincrement=False),
    Column("online", Integer, nullable=False),
    Column("updating", Integer, nullable=False),
    Column("degraded", Integer, nullable=False),
    Column("offline", Integer, nullable=False),
    Column("revoked", Integer, nullable=False),
)
