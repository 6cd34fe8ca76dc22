"""``python -m hardware [--json] [--folder DIR]``: what this machine has, and why we think so."""

import argparse
from pathlib import Path

import msgspec

from hardware.probe import Examination, examine
from modules import program


def as_text(examination: Examination) -> str:
    """For people: the facts, then the reasons."""
    facts = examination.facts
    lines = [
        f"platform      {facts.platform}",
        f"processor     {facts.cpu_model or 'unknown'}, {facts.cores:g} cores",
        f"memory        {facts.memory_mb} MiB",
        f"free disk     {facts.disk_free_mb} MiB",
    ]
    for one in facts.accelerators:
        driver = f", driver {one.driver}" if one.driver else ""
        lines.append(f"accelerator   {one.kind}: {one.name}, {one.memory_mb} MiB{driver} ({', '.join(one.providers)})")
    if not facts.accelerators:
        lines.append("accelerator   none")
    return "\n".join([*lines, "", "why", *(f"  {name}: {note}" for name, note in examination.notes)])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m hardware", description="Show what this machine can compute with.")
    parser.add_argument("--json", action="store_true", help="the facts and reasons as one JSON document")
    parser.add_argument("--folder", type=Path, default=Path("/var/lib/edgefleet"), help="whose free disk to show")
    line = parser.parse_args()
    examination = examine(line.folder)
    print(msgspec.json.encode(examination).decode() if line.json else as_text(examination))
    return 0


if __name__ == "__main__":
    program.run("hardware", main)
