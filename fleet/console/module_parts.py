"""What the pages of modules are made of: manifests in words, and what differs between two of them."""

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import msgspec
from nicegui import ui

from fleet.console import parts
from modules.manifest import Manifest

_TEXT: Final = 2000
# How the entries of a manifest's lists are told apart.
_NAMES: Final = {"files": ("path",), "runtimes": ("platform", "accelerator"), "secrets": ("name",)}
# What says nothing that its neighbours do not.
_SILENT: Final = ("format", "team", "name", "version", "blocks")


class Difference(NamedTuple):
    """One value of two manifests that is not the same; empty where one of them has none."""

    where: str
    before: str
    after: str


def link_of(ref: str) -> str:
    """The page of a module version."""
    return "/modules/" + ref.replace(":", "/")


def whole(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """A manifest as it was signed, with what goes without saying in it."""
    found: dict[str, Any] = msgspec.to_builtins(msgspec.convert(manifest, Manifest))
    return found


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Difference]:
    """What two manifests do not have in common, in order of where it stands."""
    old, new = dict(_flat("", before)), dict(_flat("", after))
    changed = [name for name in sorted({**old, **new}) if old.get(name) != new.get(name)]
    return [Difference(name, old.get(name, ""), new.get(name, "")) for name in changed]


def _flat(where: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, one in value.items():
            if name not in _SILENT or where.count("."):
                yield from _flat(f"{where}.{name}" if where else name, one)
    elif isinstance(value, list | tuple) and value and all(isinstance(one, dict) for one in value):
        keys = _NAMES.get(where, ())
        for at, one in enumerate(value):
            named = " ".join(str(one[key]) for key in keys if key in one) or str(at + 1)
            yield from _flat(f"{where}[{named}]", {name: each for name, each in one.items() if name != "blocks"})
    elif isinstance(value, list | tuple):
        yield where, ", ".join(str(one) for one in value)
    else:
        yield where, "" if value is None else str(value)


def draw_needs(manifest: Mapping[str, Any]) -> None:
    """What a host must have, and in what it can run."""
    needs, limits = manifest["needs"], manifest["proof"].get("limits", {})
    said = [("memory", f"{needs['memory_mb']} MiB"), ("disk", f"{needs['disk_mb']} MiB" if needs["disk_mb"] else "")]
    said += [("CPU", f"{needs['cpu_cores']:g} cores" if needs["cpu_cores"] else "")]
    said += [(f"limit of {name}", f"{value:g}") for name, value in limits.items() if value is not None]
    _facts(said)
    for one in manifest["runtimes"]:
        image = one.get("image")
        with ui.element("div").classes("ef-line"):
            ui.label(f"{one['platform']}, {one['accelerator']}"[: parts.WORDS]).classes("ef-strong")
            ui.label(", ".join(one["providers"])[: parts.WORDS])
            ui.label(f"image {image['name']}"[: parts.WORDS] if image else "no image: runs as a process only").classes(
                "ef-soft"
            )


def draw_serves(manifest: Mapping[str, Any]) -> None:
    """What it answers with, and what an order may change of it."""
    serve = manifest["serve"]
    for name, value in _flat("", {key: one for key, one in serve.items() if key != "kind"}):
        _facts([(name, value)])
    proof = manifest["proof"]
    unproved = "unproved: ready is all that devices check"
    _facts(
        [
            ("kind", serve["kind"]),
            ("proof", unproved if proof["prove"] == "ready-only" else f"the samples in {proof['samples']}"),
            ("probation", f"{proof['probation_s']:g} s"),
            ("secrets", ", ".join(one["name"] for one in manifest.get("secrets", ()))),
            ("confidential", "yes: never broadcast" if manifest.get("confidential") else ""),
            ("fallback hosts", ", ".join(manifest["fallback_hosts"])),
        ]
    )
    for name, one in manifest["adjustable"].items():
        bounds = ", ".join(f"{key} {value}" for key, value in one.items() if key != "default" and value)
        _facts([(f"setting {name}", f"{one['default']}" + (f" ({bounds})" if bounds else ""))])
    for key, value in {**manifest["tags"], **manifest["properties"]}.items():
        _facts([(key[:100], value)])


def _facts(said: list[tuple[str, str]]) -> None:
    for name, value in said:
        if value:
            with ui.element("div").classes("ef-fact"):
                ui.label(name).classes("ef-soft")
                ui.label(value[: parts.WORDS]).classes("ef-cell")


def draw_files(manifest: Mapping[str, Any], most: int) -> None:
    files = sorted(manifest["files"], key=lambda one: -one["length"])
    for one in files[:most]:
        with ui.element("div").classes("ef-line"):
            ui.label(one["path"][: parts.WORDS]).classes("ef-cell ef-strong")
            ui.label(parts.size(one["length"]))
            ui.label(one["sha256"][:19]).classes("ef-mono ef-soft")
    if len(files) > most:
        ui.label(f"and {len(files) - most} smaller files").classes("ef-soft")


def draw_sample(sample: Any) -> None:
    """A request and the answer that it must give."""
    with ui.element("div").classes("ef-sample"):
        ui.label(sample.name[: parts.WORDS]).classes("ef-strong")
        ui.label(f"{sample.method} {sample.path}"[: parts.WORDS]).classes("ef-mono ef-soft")
        for body, kind in (
            (sample.body, sample.content_type),
            (sample.answer, f"{sample.status} {sample.answer_type}"),
        ):
            ui.label(_shown(body, kind)).classes("ef-mono ef-log").props("tabindex=0")


def _shown(body: bytes, kind: str) -> str:
    try:
        text = body[: 4 * _TEXT].decode()
    except UnicodeDecodeError:
        return f"{parts.size(len(body))} of {kind}"[: parts.WORDS]
    return text[:_TEXT] + ("…" if len(text) > _TEXT else "")
