"""The tables of fallbacks (fleet/fallbacks/); as fleet/tables.py."""

from sqlalchemy import BigInteger, Boolean, Column, Float, Integer, String, Table, Text, UniqueConstraint

from fleet.schema import metadata

# Who answers instead of a group of devices, for all versions of a model.
policies = Table(
    "fallback_policies",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("team", String(63), nullable=False),
    Column("model", String(63), nullable=False),
    Column("selector", String(2000), nullable=False),  # of labels; * for the module everywhere
    Column("fallback", String(2000), nullable=False),  # an https address or endpoint:NAME; empty: nobody, never
    Column("terms", Text, nullable=False),  # what an order says besides, in JSON
    Column("on_demand", Boolean, nullable=False),
    Column("linger_s", Integer, nullable=False),
    Column("money_a_day", Float, nullable=False),  # 0: no bound
    Column("spent_on", Integer, nullable=False, server_default="-1"),  # the day, since 1970, whose money is spent
    Column("created", Float, nullable=False),
    Column("changed", Float, nullable=False),
    Column("by", String(100), nullable=False, server_default=""),
    UniqueConstraint("team", "model", "selector"),
)

# What an endpoint has cost, by days since 1970 in UTC.
costs = Table(
    "endpoint_costs",
    metadata,
    Column("endpoint", String(63), primary_key=True),
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("replica_s", Float, nullable=False),
    Column("requests", BigInteger, nullable=False, server_default="0"),
    Column("cost", Float, nullable=False),
)

# Of each endpoint that runs on demand: since when nobody needs it, and where devices were told that it is.
demands = Table(
    "endpoint_demands",
    metadata,
    Column("endpoint", String(63), primary_key=True),
    Column("idle_since", Float),  # None: somebody needs it
    Column("scaled", Float, nullable=False),  # when its replicas were changed last
    Column("devices", Integer, nullable=False),
)
