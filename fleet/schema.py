"""What all tables stand in, whichever module defines them."""

import importlib
from typing import Final

from sqlalchemy import BigInteger, Integer, MetaData

_MODULES: Final = (
    *("fleet.tables", "fleet.command_tables", "fleet.secret_tables", "fleet.target_tables", "fleet.look_tables"),
    *("fleet.fallback_tables", "fleet.upload_tables"),
)

# Named constraints, so that a later migration can change them on every database.
metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# Counts and times on the wire go to 2^53; SQLite's integers hold them as they are.
Large = BigInteger().with_variant(Integer(), "sqlite")


def complete() -> MetaData:
    """The metadata once every table is in it; for who needs all of them and not some by name."""
    for module in _MODULES:
        importlib.import_module(module)
    return metadata
