"""The tables of secrets, sealed (fleet/sealed_secrets.py); as fleet/tables.py."""

from sqlalchemy import Column, Float, ForeignKey, Integer, LargeBinary, String, Table

from fleet.schema import metadata
from fleet.tables import devices

# What is sealed to a device for one of its slots, by the secret's name; None: it was taken away.
secrets = Table(
    "secrets",
    metadata,
    Column("device", ForeignKey(devices.c.id), primary_key=True),
    Column("slot", String(63), primary_key=True),
    Column("name", String(63), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("sealed", LargeBinary),
    Column("sealed_to", LargeBinary, nullable=False),  # the device's public key at that time
    Column("at", Float, nullable=False),
    Column("by", String(100), nullable=False, server_default=""),
)

# For whom a secret was set, so that a device which joins later is known to lack it.
secret_wishes = Table(
    "secret_wishes",
    metadata,
    Column("slot", String(63), primary_key=True),
    Column("name", String(63), primary_key=True),
    Column("selector", String(500), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("at", Float, nullable=False),
    Column("by", String(100), nullable=False, server_default=""),
)
