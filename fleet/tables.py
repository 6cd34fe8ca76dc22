"""The tables, nothing else. Times are Unix seconds; documents are stored as the bytes that were received or signed."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
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
_Large = BigInteger().with_variant(Integer(), "sqlite")
# The orders that the broker has not taken yet, and no others.
_UNPUBLISHED = text("order_counter > order_published")

tokens = Table(
    "tokens",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("kind", String(16), nullable=False),  # "api" or "join"
    Column("hash", String(64), nullable=False, unique=True),
    Column("role", String(32), nullable=False),
    Column("uses_left", Integer),  # None: without end
    Column("created", Float, nullable=False),
    Column("expires", Float),  # None: never
)

devices = Table(
    "devices",
    metadata,
    Column("id", String(63), primary_key=True),
    Column("labels", JSON, nullable=False),
    Column("certificate", Text, nullable=False),
    Column("public_key", Text, nullable=False),
    Column("enrolled", Float, nullable=False),
    Column("online", Boolean, nullable=False),
    Column("boot", _Large, nullable=False),
    Column("last_seen", Float),
    Column("facts_number", _Large, nullable=False),
    Column("facts", LargeBinary),
    Column("report_number", _Large, nullable=False),
    Column("report", LargeBinary),
    Column("order_counter", _Large, nullable=False),
    Column("order_expires", _Large),
    Column("order_envelope", LargeBinary),
    Column("order_published", _Large, nullable=False),  # highest counter that the broker took
    # The numbers above begin anew where a device has lost its database. Earlier epochs, with the last number of each.
    Column("epoch", String(16), nullable=False, server_default=""),
    Column("status_epoch", String(16), nullable=False, server_default=""),
    Column("retired_epochs", JSON, nullable=False, server_default="{}"),
    Column("telemetry_number", _Large, nullable=False, server_default="0"),
    # Taken out of the fleet at that time; ``parting``: the broker has still to forget it.
    Column("removed", Float),
    Column("parting", Boolean, nullable=False, server_default="0"),
    # So that a tick in which nothing happened reads no device.
    Index("ix_devices_order_expires", "order_expires"),
    Index("ix_devices_unpublished", "id", sqlite_where=_UNPUBLISHED, postgresql_where=_UNPUBLISHED),
)

# Of each device and stream the newest message, and how many bytes came on that day (counted from 1970, in UTC).
telemetry = Table(
    "telemetry",
    metadata,
    Column("device", ForeignKey("devices.id"), primary_key=True),
    Column("stream", String(64), primary_key=True),
    Column("number", _Large, nullable=False),
    Column("received", Float, nullable=False),
    Column("document", LargeBinary, nullable=False),  # Telemetry
    Column("day", Integer, nullable=False),
    Column("day_bytes", _Large, nullable=False),
)

# Every message that was kept, in the order in which they came; ``received`` by the server's clock.
telemetry_history = Table(
    "telemetry_history",
    metadata,
    Column("id", _Large, primary_key=True),
    Column("device", ForeignKey("devices.id"), nullable=False),
    Column("stream", String(64), nullable=False),
    Column("received", Float, nullable=False, index=True),
    Column("document", LargeBinary, nullable=False),  # Telemetry
    Index("ix_telemetry_history_device_id", "device", "id"),
)

# Every certificate that was issued to a device, by its serial number in hexadecimal.
certificates = Table(
    "certificates",
    metadata,
    Column("serial", String(40), primary_key=True),
    Column("device", ForeignKey("devices.id"), nullable=False, index=True),
    Column("expires", Float, nullable=False),
    Column("revoked", Float),
)

# What a device's order says now: the newest revision of each of its slots.
slots = Table(
    "slots",
    metadata,
    Column("device", ForeignKey("devices.id"), primary_key=True),
    Column("slot", String(63), primary_key=True),
    Column("rollout", ForeignKey("rollouts.id"), nullable=False),
    Column("document", LargeBinary, nullable=False),  # SlotOrder
    Column("revision", Integer, nullable=False, server_default="0"),
    # A waiver that the device has not answered yet: the counter of the order that carries it, 0 before there is one.
    Column("waiver", _Large),
)

# What was ever decided for a slot, in order. Rows are only added.
slot_revisions = Table(
    "slot_revisions",
    metadata,
    Column("device", ForeignKey("devices.id"), primary_key=True),
    Column("slot", String(63), primary_key=True),
    Column("revision", Integer, primary_key=True, autoincrement=False),
    Column("document", LargeBinary),  # SlotOrder; None: the slot is emptied
    Column("rollout", ForeignKey("rollouts.id")),  # whose document it is
    Column("at", Float, nullable=False),
    Column("by", String(100), nullable=False),
)

modules = Table(
    "modules",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("team", String(63), nullable=False),
    Column("name", String(63), nullable=False),
    Column("version", String(40), nullable=False),
    Column("digest", String(71)),  # None while the version is only reserved
    Column("length", _Large),
    Column("state", String(16), nullable=False),  # "reserved", "draft", "signed" or "removed"
    Column("created", Float, nullable=False),
    UniqueConstraint("team", "name", "version"),
)

tuf_metadata = Table(
    "tuf_metadata",
    metadata,
    Column("role", String(80), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("data", LargeBinary, nullable=False),
    Column("told", Boolean, nullable=False, server_default="0"),  # that half of its life is over
)

rollouts = Table(
    "rollouts",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("module", String(200), nullable=False),
    Column("slot", String(63), nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("wave", Integer, nullable=False),  # counted from 1; 0: none is open
    Column("waves", Integer, nullable=False),
    Column("plan", LargeBinary, nullable=False),  # what is asked of each wave (PlannedWave without its devices)
    Column("policy", LargeBinary, nullable=False),
    Column("document", LargeBinary, nullable=False),  # SlotOrder of every device
    Column("waive", Boolean, nullable=False),
    Column("misfits", JSON, nullable=False),
    Column("selector", Text, nullable=False, server_default="*"),
    Column("late_joiners", Boolean, nullable=False, server_default="0"),
    Column("created", Float, nullable=False),
    Column("starts", Float),  # None: at once
    Column("deadline_s", Float, nullable=False, server_default="86400"),  # of each device, from its order on
    Column("complete_since", Float),  # since when all opened waves are complete
    Column("approved", Integer, nullable=False, server_default="0"),  # the highest wave that an operator approved
    # When the engine has to look at it: at once after a change, at a moment at which time alone changes something,
    # or never (None).
    Column("look_at", Float, index=True),
    Column("waits_for", Text, nullable=False, server_default=""),  # the judge's last reason to hold
    # Since when its members and history are not kept any more; None: they are there.
    Column("forgotten", Float),
)

# All of a rollout but its misfits: they may be thousands, and those who move it on need none of them.
rollout_columns = [one for one in rollouts.c if one.name != "misfits"]

# Kinds of hardware that a rollout was stopped for.
stopped_kinds = Table(
    "stopped_kinds",
    metadata,
    Column("rollout", ForeignKey("rollouts.id"), primary_key=True),
    Column("hardware", String(100), primary_key=True),
    Column("at", Float, nullable=False),
    Column("reason", Text, nullable=False),
)

members = Table(
    "members",
    metadata,
    Column("rollout", ForeignKey("rollouts.id"), primary_key=True),
    Column("device", ForeignKey("devices.id"), primary_key=True),
    Column("slot", String(63), nullable=False),
    Column("digest", String(71), nullable=False),
    Column("wave", Integer, nullable=False),
    Column("hardware", String(100), nullable=False, server_default=""),
    Column("place", String(140)),  # label=value of the budget; None: there is none
    Column("current", Boolean, nullable=False),  # False: a newer rollout, a removal or its own end took the slot
    Column("superseded_by", Integer),  # the newer rollout, where it was one
    Column("revision", Integer),  # of its slot; None before its wave opens
    Column("counter", _Large),  # the order that carries it, or that took it back; None before its wave opens
    Column("standing", String(16), nullable=False),
    Column("due", Float),  # until when the device must have come to an end; None: nothing is waited for
    Column("note", Text, nullable=False, server_default=""),  # why an operator or the server decided about it
    Column("phase", String(32), nullable=False),
    Column("health", String(32), nullable=False, server_default=""),  # of the committed module; empty: not told
    Column("detail", LargeBinary),  # SlotReport
    Index("ix_members_device_slot", "device", "slot"),
    # The judge's counts are read from this index alone.
    Index("ix_members_counts", "rollout", "wave", "hardware", "standing", "current"),
    Index("ix_members_standing_place", "standing", "place"),
    # Who is next: the first of them, without a look at the others.
    Index("ix_members_next", "rollout", "standing", "wave", "device"),
    Index("ix_members_due", "due"),
)

# Rules that start rollouts by themselves (fleet/rollouts/auto.py).
auto_rollouts = Table(
    "auto_rollouts",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("team", String(63), nullable=False),
    Column("model", String(63), nullable=False),
    Column("rule", LargeBinary, nullable=False),
    Column("created", Float, nullable=False),
    Column("by", String(100), nullable=False, server_default=""),
    Column("last", String(40)),  # the version that it started last, with which rollout
    Column("rollout", ForeignKey("rollouts.id")),
)

# Versions that were signed, and that the rules have still to look at.
releases = Table("releases", metadata, Column("module", String(200), primary_key=True))

# Devices whose labels or facts changed: rollouts that take late joiners have still to look at them.
newcomers = Table("newcomers", metadata, Column("device", ForeignKey("devices.id"), primary_key=True))

history = Table(
    "history",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("rollout", ForeignKey("rollouts.id"), nullable=False, index=True),
    Column("at", Float, nullable=False),
    Column("what", Text, nullable=False),
    Column("by", String(100), nullable=False, server_default=""),
)

events = Table(
    "events",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Float, nullable=False, index=True),
    Column("kind", String(40), nullable=False),
    Column("device", String(63)),
    Column("message", Text, nullable=False),
    Column("by", String(100), nullable=False, server_default=""),
)
