"""``python -m agent.content --settings FILE --to FOLDER``: brings a pod its module, or says in one line why not."""

import argparse
import sys
import time
from pathlib import Path
from typing import Final

from agent.content.bring import bring
from modules import program
from modules.errors import BadSettings, EdgefleetError, NoSpace, Refused
from modules.manifest import Manifest
from modules.program import MAKE_ROOM, disk_takes_no_more
from modules.protocol.content import DONE, LIMIT, REFUSED, UNREACHED, Content, decode
from modules.words import printable

#: what Kubernetes shows of a container that has ended
TERMINATION_LOG: Final = Path("/dev/termination-log")
# Kubernetes keeps so much of it.
_MOST: Final = 4096


def main(argv: list[str] | None = None) -> int:
    """Bring the module; the exit status is one of ``modules.protocol.content``."""
    parser = argparse.ArgumentParser(prog="python -m agent.content", description=__doc__)
    parser.add_argument("--settings", type=Path, required=True, metavar="FILE", help="content.json")
    parser.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="where the module is laid out")
    parser.add_argument(
        "--termination-log", type=Path, default=TERMINATION_LOG, metavar="FILE", help="where the reason goes besides"
    )
    arguments = parser.parse_args(argv)
    try:
        content = _settings(arguments.settings)
        manifest = _brought(content, arguments.to)
    except EdgefleetError as error:
        line = printable(str(error), _MOST)
        sys.stderr.write(f"{line}\n")
        _leave(arguments.termination_log, line)
        return REFUSED if isinstance(error, Refused) else UNREACHED
    total = sum(file.length for file in manifest.files)
    sys.stdout.write(f"{manifest.ref}: {len(manifest.files)} files of {total} bytes are here, as they were signed\n")
    return DONE


def _brought(content: Content, to: Path) -> Manifest:
    try:
        return bring(content, to, now=time.time(), say=_say)
    except OSError as error:
        if disk_takes_no_more(error):
            raise NoSpace(str(error.strerror), element=str(to), remedy=MAKE_ROOM) from error
        raise BadSettings(
            f"the folder cannot be written: {error.strerror or error}",
            element=str(error.filename or to),
            remedy="mount a volume there that the pod's user may write",
        ) from error


def _settings(file: Path) -> Content:
    try:
        with file.open("rb") as stream:
            data = stream.read(LIMIT + 1)
    except OSError as error:
        raise BadSettings(
            f"the settings cannot be read: {error.strerror}", element=str(file), remedy="mount the endpoint's Secret"
        ) from error
    return decode(data)


def _say(line: str) -> None:
    sys.stdout.write(printable(line) + "\n")
    sys.stdout.flush()


def _leave(log: Path, line: str) -> None:
    """Where Kubernetes has made the file; nowhere else."""
    if log.is_file():
        try:
            log.write_text(line)
        except OSError as error:
            sys.stderr.write(f"{log}: {error.strerror}\n")


if __name__ == "__main__":
    program.run("python -m agent.content", main)
