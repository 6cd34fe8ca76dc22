"""``python -m modules.scoring.batch``.

Exit code 0: every input is answered or set aside; 1: the command line; 3: the module cannot be served; 4: too many
inputs failed; 5: inputs, outputs or state cannot be used; 143: ended by SIGTERM. Run again, it goes on where it was.
"""

import argparse
import ast
import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

import msgspec

from modules import bodies, memory, program
from modules.digests import sha256
from modules.errors import BadSettings, EdgefleetError, NotReady, OverLimit
from modules.scoring import settings
from modules.scoring.batch import results
from modules.scoring.batch.items import Items
from modules.scoring.batch.ledger import Plan, begun
from modules.scoring.batch.parts import Part
from modules.scoring.batch.run import Run, Told, Ways
from modules.scoring.server import report
from modules.scoring.settings import BadCommandLine, Script

log = logging.getLogger(__name__)

BAD_COMMAND_LINE: Final = 1
CANNOT_SERVE: Final = 3
TOO_MANY_FAILED: Final = 4
UNUSABLE: Final = 5
TERMINATED: Final = 143
PROGRESS: Final = "progress.json"
#: what Kubernetes keeps of a container that has ended; it makes the file
TERMINATION_LOG: Final = Path("/dev/termination-log")
_KEPT: Final = 4096
_FINISHED: Final = "finished"
_MOST: Final = 256
# Kubernetes says it there, where a Job has several pods.
_PART: Final = "JOB_COMPLETION_INDEX"
# The memory of a machine that does not say what it has.
_ANY: Final = 1 << 40
_READY_S: Final = 600.0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise BadCommandLine(message, element="command line", remedy="see --help")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line.

    Raises:
        BadCommandLine: it cannot be used.
    """
    parser = _Parser(prog="python -m modules.scoring.batch", description="Ask one module about many inputs, once.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--module", type=Path, metavar="DIR", help="a folder with manifest.json and files/")
    what.add_argument("--model", type=Path, metavar="FILE", help="an ONNX graph without a manifest")
    what.add_argument("--script", type=Path, metavar="FILE", help="an entry script without a manifest")
    parser.add_argument("--model-dir", type=Path, metavar="DIR", help="AZUREML_MODEL_DIR of --script")
    parser.add_argument("--inputs", type=Path, required=True, metavar="FOLDER", help="files, or lines of .jsonl files")
    parser.add_argument("--match", default="*", metavar="PATTERN", help="which paths below it (default: all)")
    parser.add_argument("--outputs", type=Path, required=True, metavar="FOLDER", help="answers.jsonl comes there")
    parser.add_argument("--state", type=Path, required=True, metavar="FOLDER", help="what a second start goes on from")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="scoring servers side by side (1)")
    parser.add_argument(
        "--mini-batch", type=int, default=10, metavar="N", help="inputs that each is asked at once (10)"
    )
    parser.add_argument("--retries", type=int, default=2, metavar="N", help="tries more for an input that fails (2)")
    parser.add_argument(
        "--error-threshold", type=int, default=-1, metavar="N", help="stop when more have failed (-1: never)"
    )
    parser.add_argument(
        "--timeout", type=float, default=0.0, metavar="S", help="for one answer (0: as the module says)"
    )
    parser.add_argument(
        "--patience", type=float, default=0.0, metavar="S", help="for another run of this state to end (0)"
    )
    parser.add_argument(
        "--termination-log", type=Path, default=TERMINATION_LOG, metavar="FILE", help="where the last word goes besides"
    )
    parser.add_argument("--parts", type=int, default=1, metavar="N", help="so many runs share the inputs (1)")
    parser.add_argument(
        "--part", type=int, default=os.environ.get(_PART, "0"), metavar="N", help=f"which it is, from 0 ({_PART})"
    )
    parser.add_argument("--progress", type=int, default=100, metavar="N", help="a line of JSON each N inputs (100)")
    line = parser.parse_args(arguments)
    for name, least, most in (
        ("workers", 1, _MOST), ("mini_batch", 1, _MOST), ("retries", 0, 100), ("progress", 1, 1 << 40),
        ("error_threshold", -1, 1 << 60), ("timeout", 0, 1 << 30), ("patience", 0, 1 << 30),
        ("parts", 1, _MOST), ("part", 0, line.parts - 1),
    ):  # fmt: skip
        if not least <= getattr(line, name) <= most:
            parser.error(f"--{name.replace('_', '-')} must be {least} to {most}")
    return line


async def run(line: argparse.Namespace) -> None:
    """All of it.

    Raises:
        EdgefleetError: it cannot go on.
    """
    asked = [
        word
        for option in ("module", "model", "script", "model_dir")
        if (given := getattr(line, option))
        for word in (f"--{option.replace('_', '-')}", str(given.absolute()))
    ]
    served = settings.read([*asked, "--unix", "never"], os.environ)
    items = Items(line.inputs.absolute(), line.match)
    plan = Plan(module=_identity(line), inputs=items.digest, items=len(items), parts=line.parts)
    part = Part(line.part, plan, line.state, line.patience)
    for folder in (line.outputs, line.state):
        _made(folder)
    if not begun(line.state):
        results.check_fresh(line.outputs)
    with contextlib.closing(await part.ledger(line.workers)) as ledger:
        as_list = isinstance(served.serves, Script) and takes_mini_batch(served.serves.file)
        environment = {"EDGEFLEET_MINI_BATCH": "1"} if as_list else {}
        if line.timeout:
            environment["SCORING_TIMEOUT_MS"] = str(line.timeout * 1000)
        ways = Ways(
            asked, environment, line.workers, line.mini_batch, line.retries, line.error_threshold, line.timeout,
            _READY_S, as_list, bodies.bearable(memory.granted() or _ANY).body,
        )  # fmt: skip

        def tell(told: Told) -> None:
            ledger.replace(PROGRESS, told)
            text = msgspec.json.encode(told).decode()
            sys.stdout.write(f"{text}\n")
            sys.stdout.flush()
            if told.state == _FINISHED:
                _leave(line.termination_log, text)

        running = Run(items, ledger, ways, tell=tell, every=line.progress)
        try:
            await running.run()
        except OverLimit:
            await part.stop(ledger, line.outputs, items)
            running.tell("stopped")
            raise
        except asyncio.CancelledError:
            ledger.stopped()
            raise
        await part.finish(ledger, line.outputs, items)
        running.tell(_FINISHED)


def _leave(file: Path, text: str) -> None:
    """Where Kubernetes has made the file; nowhere else."""
    if file.is_file():
        with contextlib.suppress(OSError):  # the log says it as well
            file.write_text(text[-_KEPT:])


def takes_mini_batch(script: Path) -> bool:
    """Whether a script is written for Azure ML's parallel runs: its function is ``run(mini_batch)``."""
    try:
        tree = ast.parse(script.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return False  # the server says what is wrong with it
    functions = (one for one in tree.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef))
    return any(one.name == "run" and [arg.arg for arg in one.args.args][:1] == ["mini_batch"] for one in functions)


def _identity(line: argparse.Namespace) -> str:
    """What tells one module from another: its manifest, or the file that is served without one."""
    file = line.module / "manifest.json" if line.module else line.model or line.script
    try:
        return sha256(file.read_bytes())
    except OSError as error:
        raise BadCommandLine(f"cannot be read: {error.strerror}", element=str(file)) from error


def _made(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(folder, error) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise BadSettings("this user may not write there", element=str(folder), remedy="name another folder")


def _unusable(folder: Path, error: OSError) -> BadSettings:
    return BadSettings(f"it cannot be used: {error.strerror}", element=str(folder), remedy="name another folder")


def _code(error: EdgefleetError) -> int:
    if isinstance(error, BadCommandLine):
        return BAD_COMMAND_LINE
    if isinstance(error, OverLimit):
        return TOO_MANY_FAILED
    return CANNOT_SERVE if isinstance(error, NotReady) else UNUSABLE


async def _until_told(line: argparse.Namespace) -> int:
    task: asyncio.Task[Any] = asyncio.ensure_future(run(line))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        return TERMINATED
    return 0


def main() -> int:
    logging.basicConfig(level="INFO", stream=sys.stderr)
    kept = TERMINATION_LOG
    try:
        line = parse(sys.argv[1:])
        kept = line.termination_log
        return asyncio.run(_until_told(line))
    except EdgefleetError as error:
        sys.stderr.write(f"{report(error)}\n")
        _leave(kept, report(error))
        return _code(error)


if __name__ == "__main__":
    program.run("edgefleet-batch", main)
