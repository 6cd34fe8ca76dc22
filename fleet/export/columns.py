"""The tables that the server gives out: each column with its type and what it means. docs/export.md is made from them.

They are a contract with people's queries: columns are added, never renamed. Times are text as SQLite's date functions
read it (``2027-03-01T22:00:00.000Z``), yes and no are 1 and 0, what is not known is NULL.
"""

from typing import Final, Literal

import msgspec

Type = Literal["INTEGER", "REAL", "TEXT"]


class Column(msgspec.Struct, frozen=True):
    """One column; ``references`` names the table whose key it is, ``index`` says that queries look things up by it."""

    name: str
    type: Type
    about: str
    references: str = ""
    index: bool = False


class Table(msgspec.Struct, frozen=True):
    """One table; its rows come sorted by ``key``."""

    name: str
    about: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]


def _device(about: str = "the device") -> Column:
    return Column("device", "TEXT", about, "devices", index=True)


DEVICES: Final = Table(
    "devices",
    "The devices, also those that were removed.",
    ("id",),
    (
        Column("id", "TEXT", "its name in the fleet"),
        Column("online", "INTEGER", "whether it has a session with the broker"),
        Column("last_seen", "TEXT", "when it was heard of last", index=True),
        Column("enrolled", "TEXT", "when it joined"),
        Column("removed", "TEXT", "when it was taken out of the fleet; NULL: it is in it"),
        Column("agent", "TEXT", "the version of its agent"),
        Column("platform", "TEXT", "as linux/arm64"),
        Column("cpu_model", "TEXT", "its processor"),
        Column("cores", "REAL", "processors that it may use"),
        Column("memory_mb", "INTEGER", "memory, in MiB"),
        Column("disk_free_mb", "INTEGER", "free disk, in MiB, when it said so last"),
        Column("accelerators", "TEXT", "names, with commas between"),
        Column("engines", "TEXT", "container engines with their versions, with commas between"),
        Column("order_counter", "INTEGER", "the number of its newest order"),
        Column("order_expires", "TEXT", "until when that order may be accepted"),
        Column("report_number", "INTEGER", "the number of its newest report"),
        Column("report_order", "INTEGER", "the order that the report answers"),
        Column("reported", "TEXT", "when the report was made, by the device's clock"),
    ),
)
LABELS: Final = Table(
    "labels",
    "The labels of the devices.",
    ("device", "label"),
    (
        _device(),
        Column("label", "TEXT", "its name, as site", index=True),
        Column("value", "TEXT", "its value, as berlin"),
    ),
)
SLOTS: Final = Table(
    "slots",
    "What each slot of each device is ordered to run.",
    ("device", "slot"),
    (
        _device(),
        Column("slot", "TEXT", "the slot", index=True),
        Column("module", "TEXT", "team/name:version", index=True),
        Column("digest", "TEXT", "of the module's manifest"),
        Column("engine", "TEXT", "docker or process"),
        Column("fallback", "TEXT", "where requests go while no module answers"),
        Column("revision", "INTEGER", "the decision that says so, in slot_revisions"),
        Column("rollout", "INTEGER", "the rollout that brought it", "rollouts", index=True),
    ),
)
SLOT_REVISIONS: Final = Table(
    "slot_revisions",
    "What was ever decided for each slot, as far as the server keeps it.",
    ("device", "slot", "revision"),
    (
        _device(),
        Column("slot", "TEXT", "the slot"),
        Column("revision", "INTEGER", "counted from 1 for each slot of each device"),
        Column("module", "TEXT", "team/name:version; NULL: the slot was emptied", index=True),
        Column("digest", "TEXT", "of the module's manifest"),
        Column("engine", "TEXT", "docker or process"),
        Column("rollout", "INTEGER", "the rollout whose decision it was", "rollouts", index=True),
        Column("at", "TEXT", "when"),
        Column("by", "TEXT", "who asked for it; empty: the server itself"),
    ),
)
REPORTS: Final = Table(
    "reports",
    "The newest report of each device: a row for each slot.",
    ("device", "slot"),
    (
        _device(),
        Column("slot", "TEXT", "the slot", index=True),
        Column("phase", "TEXT", "how far the wanted module is"),
        Column("module", "TEXT", "the wanted module, team/name:version"),
        Column("digest", "TEXT", "of the wanted module's manifest"),
        Column("attempts", "INTEGER", "how often it was tried"),
        Column("progress", "REAL", "the share that has been fetched, 0 to 1"),
        Column("reason_code", "TEXT", "why it is not further: the error's code", index=True),
        Column("reason", "TEXT", "and its sentence"),
        Column("serving_module", "TEXT", "the module that answers; NULL: nobody does", index=True),
        Column("serving_digest", "TEXT", "of that module's manifest"),
        Column("provider", "TEXT", "the execution provider that it uses"),
        Column("engine", "TEXT", "what it runs in"),
        Column("health", "TEXT", "of the committed module: up, restarting or degraded"),
        Column("restarts", "INTEGER", "since it was last steady"),
        Column("health_code", "TEXT", "why it does not stay up: the error's code"),
        Column("health_reason", "TEXT", "and its sentence"),
        Column("measured_s", "REAL", "length of the newest window in which the device measured, in seconds"),
        Column("requests", "INTEGER", "requests of applications in that window"),
        Column("errors", "INTEGER", "of them, answered with 500 and above, or not at all"),
        Column("p50_ms", "REAL", "latency that applications saw: half of the requests were quicker"),
        Column("p95_ms", "REAL", "and 95 of 100"),
        Column("memory_used_mb", "INTEGER", "memory of the module's container, in MiB"),
        Column("memory_growth_mb_h", "REAL", "how fast it grows, in MiB an hour"),
        Column("temperature_c", "REAL", "the device's temperature"),
    ),
)
ROLLOUTS: Final = Table(
    "rollouts",
    "The rollouts.",
    ("id",),
    (
        Column("id", "INTEGER", "its number"),
        Column("module", "TEXT", "team/name:version", index=True),
        Column("slot", "TEXT", "the slot that it fills"),
        Column("state", "TEXT", "where it is", index=True),
        Column("wave", "INTEGER", "the newest open wave; 0: none"),
        Column("waves", "INTEGER", "how many there are"),
        Column("selector", "TEXT", "the devices that it means"),
        Column("created", "TEXT", "when it was started"),
        Column("starts", "TEXT", "when it may begin; NULL: at once"),
        Column("deadline_s", "REAL", "how long a device has, from its order on"),
        Column("waits_for", "TEXT", "why the next wave is not open"),
        Column("policy", "TEXT", "its policy, as JSON"),
        Column("forgotten", "TEXT", "since when its members and history are not kept any more; NULL: they are here"),
    ),
)
MEMBERS: Final = Table(
    "members",
    "Each device of each rollout.",
    ("rollout", "device"),
    (
        Column("rollout", "INTEGER", "the rollout", "rollouts"),
        _device(),
        Column("slot", "TEXT", "the slot that is filled"),
        Column("digest", "TEXT", "of the module's manifest"),
        Column("wave", "INTEGER", "its wave, counted from 1"),
        Column("hardware", "TEXT", "its kind of hardware, as the rollout judges it"),
        Column("standing", "TEXT", "where the device stands in the rollout", index=True),
        Column("current", "INTEGER", "whether this rollout decides about the slot"),
        Column("superseded_by", "INTEGER", "the newer rollout that does", "rollouts"),
        Column("revision", "INTEGER", "of its slot, in slot_revisions; NULL: its wave has not opened"),
        Column("due", "TEXT", "until when it must have come to an end"),
        Column("note", "TEXT", "why an operator, a gate or the server decided about it"),
        Column("phase", "TEXT", "the phase that it reported"),
        Column("health", "TEXT", "of the committed module"),
        Column("attempts", "INTEGER", "how often the device tried"),
        Column("reason_code", "TEXT", "why it is not further: the error's code", index=True),
        Column("reason", "TEXT", "and its sentence"),
    ),
)
HISTORY: Final = Table(
    "history",
    "What happened to each rollout, in words.",
    ("id",),
    (
        Column("id", "INTEGER", "in the order in which it happened"),
        Column("rollout", "INTEGER", "the rollout", "rollouts", index=True),
        Column("at", "TEXT", "when"),
        Column("what", "TEXT", "what"),
        Column("by", "TEXT", "who asked for it; empty: the server itself"),
    ),
)
EVENTS: Final = Table(
    "events",
    "What the server noticed: `edgefleet events`.",
    ("id",),
    (
        Column("id", "INTEGER", "in the order in which it happened"),
        Column("at", "TEXT", "when", index=True),
        Column("kind", "TEXT", "what kind of event", index=True),
        Column("device", "TEXT", "the device that it is about, which may be none of the fleet's", index=True),
        Column("message", "TEXT", "what happened"),
        Column("by", "TEXT", "who brought it about"),
    ),
)
_FIGURES: Final = (
    Column("slot", "TEXT", "the slot; empty: the whole device", index=True),
    Column("figure", "TEXT", "its name, as memory_mb; docs/telemetry.md lists them", index=True),
    Column("value", "REAL", "its value"),
    Column("at", "TEXT", "when it was measured, by the device's clock; NULL: that had not been set"),
    Column("received", "TEXT", "when the server got it", index=True),
)
TELEMETRY: Final = Table(
    "telemetry",
    "The newest figures that each device has measured: a row for each figure.",
    ("device", "stream", "slot", "figure"),
    (_device(), Column("stream", "TEXT", "host, gateway or modules", index=True), *_FIGURES),
)
TELEMETRY_HISTORY: Final = Table(
    "telemetry_history",
    "All figures that the server keeps: a row for each figure of each sample.",
    ("message", "sample", "figure"),
    (
        Column("message", "INTEGER", "the message, in the order in which they came"),
        Column("sample", "INTEGER", "its place in the message, from 0"),
        _device(),
        Column("stream", "TEXT", "host, gateway or modules", index=True),
        *_FIGURES,
    ),
)

COMMANDS: Final = Table(
    "commands",
    "The commands that were given to devices, and what became of them; results are not in it.",
    ("number",),
    (
        Column("number", "INTEGER", "in the order in which they were given"),
        Column("id", "TEXT", "as `edgefleet commands show` takes it", index=True),
        Column("batch", "TEXT", "the same of those that were given together", index=True),
        _device(),
        Column("name", "TEXT", "what it asks for, as restart", index=True),
        Column("slot", "TEXT", "of which slot; NULL: of the device"),
        Column("by", "TEXT", "who gave it"),
        Column("issued", "TEXT", "when it was given", index=True),
        Column("expires", "TEXT", "until when a device may begin it"),
        Column("state", "TEXT", "waiting, sent, running, done, failed, refused, expired or cancelled", index=True),
        Column("sent", "TEXT", "when the broker took it first"),
        Column("heard", "TEXT", "when an answer of the device was taken last"),
        Column("ended", "TEXT", "when it was over; NULL: it is not"),
        Column("answers", "INTEGER", "parts of its result that were taken"),
        Column("bytes", "INTEGER", "bytes of them together"),
        Column("reason_code", "TEXT", "why it failed or was refused: the error's code"),
        Column("reason", "TEXT", "and its sentence"),
    ),
)

# What refers to others comes before them: devices and rollouts that are added meanwhile are in the copy all the same.
TABLES: Final = (
    *(TELEMETRY_HISTORY, TELEMETRY, COMMANDS, EVENTS, HISTORY, MEMBERS, SLOTS, SLOT_REVISIONS, REPORTS, LABELS),
    *(ROLLOUTS, DEVICES),
)
