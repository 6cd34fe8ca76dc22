"""The tables of what people bring about models (fleet/uploads/, fleet/profiles.py); as fleet/tables.py."""

from sqlalchemy import Column, Float, ForeignKey, Index, Integer, LargeBinary, String, Table

from fleet.schema import Large, metadata
from fleet.tables import modules

# Files of models that nobody has signed, by what is in them. No order and no manifest knows of this table.
uploads = Table(
    "uploads",
    metadata,
    Column("team", String(63), primary_key=True),
    Column("digest", String(71), primary_key=True),
    Column("name", String(100), nullable=False),  # of the file
    Column("length", Large, nullable=False),
    Column("created", Float, nullable=False),
    Column("expires", Float, nullable=False, index=True),
    Column("by", String(100), nullable=False, server_default=""),
)

# What a publisher measured of a module on hardware of its own.
profiles = Table(
    "profiles",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("module", ForeignKey(modules.c.id), nullable=False),
    Column("hardware", String(100), nullable=False),  # what it was measured on, in the publisher's words
    Column("created", Float, nullable=False),
    Column("by", String(100), nullable=False, server_default=""),
    Column("document", LargeBinary, nullable=False),  # Measured (fleet/profiles.py)
    Index("ix_profiles_module_hardware", "module", "hardware"),
)
