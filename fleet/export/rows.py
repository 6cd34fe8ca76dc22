"""Rows of the database as rows of the export: documents taken apart, times as text."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec

from modules.errors import Invalid
from modules.names import ModuleRef
from modules.protocol.facts import Facts
from modules.protocol.order import SlotOrder
from modules.protocol.report import Reason, Report, SlotReport
from modules.protocol.telemetry import Sample, Telemetry

Out = dict[str, Any]


def moment(unix: float | None) -> str | None:
    """Unix seconds as SQLite's date functions read them, to the millisecond."""
    if unix is None:
        return None
    try:
        return datetime.fromtimestamp(unix, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (OSError, OverflowError, ValueError):  # of a device, whose clock may say anything
        return None


def device(row: Any) -> Iterator[Out]:
    facts = msgspec.json.decode(row.facts, type=Facts) if row.facts else None
    report = msgspec.json.decode(row.report, type=Report) if row.report else None
    host = facts.host if facts else None
    yield {
        "id": row.id,
        "online": int(row.online),
        "last_seen": moment(row.last_seen),
        "enrolled": moment(row.enrolled),
        "removed": moment(row.removed),
        "agent": report.agent if report else facts.agent if facts else None,
        "platform": host and host.platform,
        "cpu_model": host and host.cpu_model,
        "cores": host and host.cores,
        "memory_mb": host and host.memory_mb,
        "disk_free_mb": host and host.disk_free_mb,
        "accelerators": host and ", ".join(one.name for one in host.accelerators),
        "engines": host and ", ".join(f"{one.name} {one.version}".strip() for one in host.engines),
        "order_counter": row.order_counter,
        "order_expires": moment(row.order_expires),
        "report_number": row.report_number,
        "report_order": report and report.order,
        "reported": moment(report.issued) if report else None,
    }


def labels(row: Any) -> Iterator[Out]:
    for label, value in sorted(row.labels.items()):
        yield {"device": row.id, "label": label, "value": value}


def slot(row: Any) -> Iterator[Out]:
    document = msgspec.json.decode(row.document, type=SlotOrder)
    cloud = document.elsewhere
    told = {"fallback": cloud and cloud.url, "revision": row.revision, "rollout": row.rollout}
    yield {"device": row.device, "slot": row.slot, **_ordered(document), **told}


def slot_revision(row: Any) -> Iterator[Out]:
    document = msgspec.json.decode(row.document, type=SlotOrder) if row.document else None
    told = {"rollout": row.rollout, "at": moment(row.at), "by": row.by}
    yield {"device": row.device, "slot": row.slot, "revision": row.revision, **_ordered(document), **told}


def _ordered(document: SlotOrder | None) -> Out:
    if document is None:
        return {"module": None, "digest": None, "engine": None}
    try:
        module = str(ModuleRef.from_target(document.manifest))
    except Invalid:
        module = document.manifest
    return {"module": module, "digest": document.digest, "engine": document.engine}


def reports(row: Any) -> Iterator[Out]:
    """A row for each slot; a device that reports one twice is taken at its last word."""
    said = msgspec.json.decode(row.report, type=Report).slots
    for one in sorted({one.slot: one for one in said}.values(), key=lambda one: one.slot):
        serving, current, measured = one.serving, one.current, one.measured
        yield {
            "device": row.id,
            "slot": one.slot,
            "phase": one.phase,
            "module": one.module,
            "digest": one.digest,
            "attempts": one.attempts,
            "progress": one.progress,
            **_reason(one.reason),
            "serving_module": serving and serving.module,
            "serving_digest": serving and serving.digest,
            "provider": serving and serving.provider,
            "engine": serving and serving.engine,
            "health": current and current.state,
            "restarts": current and current.restarts,
            "health_code": current and current.reason and current.reason.code,
            "health_reason": current and current.reason and current.reason.message,
            "measured_s": measured and measured.seconds,
            "requests": measured and measured.requests,
            "errors": measured and measured.errors,
            "p50_ms": measured and measured.p50_ms,
            "p95_ms": measured and measured.p95_ms,
            "memory_used_mb": measured and measured.memory_mb,
            "memory_growth_mb_h": measured and measured.memory_growth_mb_h,
            "temperature_c": measured and measured.temperature_c,
        }


def rollout(row: Any) -> Iterator[Out]:
    same = ("id", "module", "slot", "state", "wave", "waves", "selector")
    yield {
        **{name: getattr(row, name) for name in same},
        "created": moment(row.created),
        "starts": moment(row.starts),
        "deadline_s": row.deadline_s,
        "waits_for": row.waits_for,
        "policy": row.policy.decode(),
        "forgotten": moment(row.forgotten),
    }


def member(row: Any) -> Iterator[Out]:
    said = msgspec.json.decode(row.detail, type=SlotReport) if row.detail else None
    same = ("rollout", "device", "slot", "digest", "wave", "hardware", "standing")
    yield {
        **{name: getattr(row, name) for name in same},
        "current": int(row.current),
        "superseded_by": row.superseded_by,
        "revision": row.revision,
        "due": moment(row.due),
        "note": row.note,
        "phase": row.phase,
        "health": row.health,
        "attempts": said and said.attempts,
        **_reason(said.reason if said else None),
    }


def history(row: Any) -> Iterator[Out]:
    yield {"id": row.id, "rollout": row.rollout, "at": moment(row.at), "what": row.what, "by": row.by}


def event(row: Any) -> Iterator[Out]:
    told = {"kind": row.kind, "device": row.device, "message": row.message, "by": row.by}
    yield {"id": row.id, "at": moment(row.at), **told}


def command(row: Any) -> Iterator[Out]:
    told = {name: getattr(row, name) for name in ("number", "id", "batch", "device", "name", "slot", "by")}
    told |= {"issued": moment(row.issued), "expires": moment(row.expires), "state": row.state}
    told |= {name: moment(getattr(row, name)) for name in ("sent", "heard", "ended")}
    told |= {"answers": row.answers, "bytes": row.bytes}
    yield told | {"reason_code": row.reason_code or None, "reason": row.reason or None}


def newest(row: Any) -> Iterator[Out]:
    said = msgspec.json.decode(row.document, type=Telemetry)
    last = {sample.slot or "": sample for sample in said.samples}
    for _, sample in sorted(last.items()):
        for out in _figures(sample, row.received):
            yield {"device": row.device, "stream": row.stream} | out


def telemetry(row: Any) -> Iterator[Out]:
    said = msgspec.json.decode(row.document, type=Telemetry)
    for number, sample in enumerate(said.samples):
        for out in _figures(sample, row.received):
            yield {"message": row.id, "sample": number, "device": row.device, "stream": row.stream} | out


def _figures(sample: Sample, received: float) -> Iterator[Out]:
    slot, times = sample.slot or "", {"at": moment(sample.at or None), "received": moment(received)}
    for figure, value in sorted(sample.figures.items()):
        yield {"slot": slot, "figure": figure, "value": value} | times


def _reason(reason: Reason | None) -> Out:
    return {"reason_code": reason and reason.code, "reason": reason and reason.message}
