"""The tables, nothing else. Times are Unix seconds; documents are stored as the bytes that were received or signed."""

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from fleet.schema import Large, metadata

# The orders that the broker has not taken yet, and no others.
_UNPUBLISHED = text("order_counter > order_published")

_LISTED = ("removed", "id", "online", "health", "revoked", "last_seen", "labels")

# People who may use the server. Their rows stay, so that the history knows whom it means.
operators = Table(
    "operators",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(63), nullable=False, unique=True),
    Column("password", String(200)),  # argon2's text; None: they come from an identity provider
    Column("subject", String(255), unique=True),  # who they are there
    Column("roles", JSON, nullable=False),  # Grants
    Column("created", Float, nullable=False),
    Column("disabled", Float),
    Column("must_change", Boolean, nullable=False, server_default="0"),  # the password, before anything else
    Column("last_login", Float),
)

# Of operators who logged in with a browser, by the hash of what their cookie holds.
sessions = Table(
    "sessions",
    metadata,
    Column("hash", String(64), primary_key=True),
    Column("operator", ForeignKey("operators.id"), nullable=False, index=True),
    Column("created", Float, nullable=False),
    Column("seen", Float, nullable=False),  # to the minute
    Column("ends", Float, nullable=False, index=True),  # however much it is used
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("kind", String(16), nullable=False),  # "api"
    Column("hash", String(64), nullable=False, unique=True),
    Column("role", String(32), nullable=False),  # empty where ``roles`` says more
    Column("uses_left", Integer),  # None: without end
    Column("created", Float, nullable=False),
    Column("expires", Float),  # None: never
    Column("name", String(63), nullable=False, server_default=""),
    Column("operator", ForeignKey("operators.id"), index=True),  # whose it is; None: the server machine's
    Column("roles", JSON),  # Grants; None: ``role``, everywhere
    Column("made_by", Integer),  # the token that asked for it, and takes it along when it is revoked
    Column("last_used", Float),  # to the minute
    Column("revoked", Float),
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
    Column("boot", Large, nullable=False),
    Column("last_seen", Float),
    Column("facts_number", Large, nullable=False),
    Column("facts", LargeBinary),
    Column("report_number", Large, nullable=False),
    Column("report", LargeBinary),
    Column("order_counter", Large, nullable=False),
    Column("order_expires", Large),
    Column("order_due", Float, index=True),  # when it is to be made anew; None: it could not be, and waits for a change
    Column("order_envelope", LargeBinary),
    Column("order_published", Large, nullable=False),  # highest counter that the broker took
    # The numbers above begin anew where a device has lost its database. Earlier epochs, with the last number of each.
    Column("epoch", String(16), nullable=False, server_default=""),
    Column("status_epoch", String(16), nullable=False, server_default=""),
    Column("retired_epochs", JSON, nullable=False, server_default="{}"),
    Column("telemetry_number", Large, nullable=False, server_default="0"),
    # Taken out of the fleet at that time; ``parting``: the broker has still to forget it.
    Column("removed", Float),
    # A certificate that was made and not seen in use yet, with its key; and the key before the present one, which
    # counts for what was under way until that time. Both in PEM.
    Column("next_key", Text),
    Column("next_certificate", Text),
    Column("previous_key", Text),
    Column("previous_until", Float),
    # Its certificates were taken back at that time; the device stays, and comes back with another key.
    Column("revoked", Float),
    Column("removed_by", String(100), nullable=False, server_default=""),
    Column("parting", Boolean, nullable=False, server_default="0"),
    # What its newest report makes of it: "degraded", "updating", or nothing to say (fleet/device_list.py).
    Column("health", String(16), nullable=False, server_default=""),
    # So that a tick in which nothing happened reads no device.
    Index("ix_devices_unpublished", "id", sqlite_where=_UNPUBLISHED, postgresql_where=_UNPUBLISHED),
    # Lists are filtered and sorted in it alone. PostgreSQL keeps large columns apart, and has no order for JSON.
    Index("ix_devices_listed", *_LISTED).ddl_if(dialect="sqlite"),
)

# What lets devices join: a bundle with a token for some of them, or, over MQTT, a claim for one (fleet/joins.py).
joins = Table(
    "joins",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("hash", String(64), unique=True),  # of the token; None: a claim, which has none
    Column("created", Float, nullable=False),
    Column("by", String(100), nullable=False, server_default=""),
    Column("expires", Float),  # None: never (tokens of before)
    Column("uses", Integer),  # None: without end (tokens of before)
    Column("uses_left", Integer),  # less those that wait for approval
    Column("labels", JSON, nullable=False, server_default="{}"),
    Column("approve", Boolean, nullable=False, server_default="0"),  # who joins waits for an operator
    Column("name", String(63)),  # the only one that may be taken; None: any that is free
    Column("readmit", Boolean, nullable=False, server_default="0"),  # that name is another key's, or was
    Column("revoked", Float),
    Column("claim", String(16), unique=True),
    Column("claim_key", Text, nullable=False, server_default=""),  # PEM
    Column("claim_serial", String(40), nullable=False, server_default=""),
    Column("claim_state", String(16), nullable=False, server_default=""),  # "open", "ended", then "cut"
    Index("ix_joins_claim_state", "claim_state"),
)

# Keys that asked to join where an operator has the last word (fleet/pending.py), by fingerprint.
pending = Table(
    "pending",
    metadata,
    Column("fingerprint", String(64), primary_key=True),
    Column("name", String(63), nullable=False, index=True),
    Column("public_key", Text, nullable=False),
    Column("join", ForeignKey("joins.id"), nullable=False, index=True),
    Column("address", String(100), nullable=False),
    Column("since", Float, nullable=False),
    Column("expires", Float, index=True),  # None: never, for it is rejected
    Column("state", String(16), nullable=False),  # "waiting", "approved" or "rejected"
    Column("by", String(100), nullable=False, server_default=""),
    Column("reason", Text, nullable=False, server_default=""),
)

# Of each device and stream the newest message, and how many bytes came on that day (counted from 1970, in UTC).
telemetry = Table(
    "telemetry",
    metadata,
    Column("device", ForeignKey("devices.id"), primary_key=True),
    Column("stream", String(64), primary_key=True),
    Column("number", Large, nullable=False),
    Column("received", Float, nullable=False),
    Column("document", LargeBinary, nullable=False),  # Telemetry
    Column("day", Integer, nullable=False),
    Column("day_bytes", Large, nullable=False),
)

# Every message that was kept, in the order in which they came; ``received`` by the server's clock.
telemetry_history = Table(
    "telemetry_history",
    metadata,
    Column("id", Large, primary_key=True),
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
    Column("issued", Float, nullable=False, server_default="0"),
)

# What ends one day (a certificate, a list, trust metadata), and when somebody was told of that end last.
endings = Table(
    "endings",
    metadata,
    Column("name", String(100), primary_key=True),
    Column("ends", Float, nullable=False),
    Column("told", Float, nullable=False),
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
    Column("waiver", Large),
    Index("ix_slots_rollout_device", "rollout", "device"),  # who is to run what is counted in it alone
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

# Under four eyes: who asked first that a slot be emptied, of which revision of it (fleet/rollouts/emptying.py).
emptyings = Table(
    "emptyings",
    metadata,
    Column("device", ForeignKey("devices.id"), primary_key=True),
    Column("slot", String(63), primary_key=True),
    Column("revision", Integer, nullable=False),
    Column("operator", Integer, nullable=False),
    Column("at", Float, nullable=False),
)

modules = Table(
    "modules",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("team", String(63), nullable=False),
    Column("name", String(63), nullable=False),
    Column("version", String(40), nullable=False),
    Column("digest", String(71)),  # None while the version is only reserved
    Column("length", Large),
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
    # Who started it: as the history names them, and which operator that is (four_eyes.py); None: none that is known.
    Column("started_by", String(100), nullable=False, server_default=""),
    Column("starter", Integer),
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
    # Whose requests it moves, a share in each wave; None: it brings its module to devices.
    Column("endpoint", String(63), index=True),
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
    Column("counter", Large),  # the order that carries it, or that took it back; None before its wave opens
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
    Index("ix_members_hardware", "rollout", "hardware", "standing"),
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
    Column("starter", Integer),  # the operator who made it
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

# Who did what (fleet/audit/): a chain of hashes, so that ids have no gap. Rows are only added.
audit = Table(
    "audit",
    metadata,
    Column("id", Large, primary_key=True, autoincrement=False),
    Column("at", Float, nullable=False),
    Column("by", String(300), nullable=False, index=True),
    Column("origin", String(300), nullable=False),
    Column("action", String(300), nullable=False),
    Column("target", String(300), nullable=False),
    Column("outcome", Integer, nullable=False),
    Column("code", String(100), nullable=False),
    Column("hash", String(64), nullable=False),
)

# Signed statements of where the chain ended.
audit_heads = Table(
    "audit_heads",
    metadata,
    Column("row", Large, primary_key=True, autoincrement=False),
    Column("at", Float, nullable=False),
    Column("envelope", LargeBinary, nullable=False),
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
