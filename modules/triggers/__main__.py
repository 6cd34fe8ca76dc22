"""``python -m modules.triggers``: the scoring server with a trigger before it; its arguments go to the server.

Exit code 0 after SIGTERM, 1 where settings or the broker must be changed, 3 where the scoring server ends.
"""

import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Final

from modules import program
from modules.errors import EdgefleetError, NotReady
from modules.triggers.folder import LOOK_S, RECEIPTS, Folder
from modules.triggers.inputs import Inputs, Stopping
from modules.triggers.paths import Paths
from modules.triggers.receipts import Receipts
from modules.triggers.scorer import Scorer
from modules.triggers.settings import FOLDER, TriggerSettings, read
from modules.triggers.topic import Topic

CANNOT: Final = 1
SERVER_ENDED: Final = 3
_READY_LOOK_S: Final = 0.1
_AWAY_S: Final = 5.0
_log = logging.getLogger("modules.triggers")


def run(settings: TriggerSettings, scorer: Scorer, stopping: threading.Event) -> None:
    """Until ``stopping`` is set.

    Raises:
        Stopping: it is.
        EdgefleetError: as what is watched.
    """
    inputs = Inputs(scorer, Receipts(_kept(settings)), stopping)
    while not scorer.is_ready():
        inputs.wait(_READY_LOOK_S)
    if settings.kind == FOLDER:
        watched = Folder(
            Path(settings.data), Paths(settings.input, settings.output), inputs, settle_s=settings.settle_s
        )
        _log.info("watching %s in %s", settings.input, settings.data)
        while True:
            scorer.expect_alive()
            try:
                watched.look()
            except OSError as error:
                _log.error("%s cannot be looked at: %s", settings.data, error)
                inputs.wait(_AWAY_S)
            inputs.wait(LOOK_S)
    topic = Topic(settings, inputs)
    try:
        while True:
            scorer.expect_alive()
            topic.look()
            inputs.wait(0)
    finally:
        topic.close()


def _kept(settings: TriggerSettings) -> Path:
    """Where receipts are: with the data; for messages, which need no folder, in the container where none is mounted."""
    data = Path(settings.data)
    if settings.kind != FOLDER and not os.access(data, os.W_OK):
        data = Path("/tmp")  # noqa: S108  inside the container
    return data / RECEIPTS


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    try:
        settings = read(os.environ)
        scorer = Scorer(sys.argv[1:], port=settings.port)
        try:
            run(settings, scorer, stopping)
        finally:
            scorer.stop()
    except Stopping:
        return 0
    except NotReady as error:
        print(error, file=sys.stderr)
        return SERVER_ENDED
    except EdgefleetError as error:
        print(error, file=sys.stderr)
        return CANNOT
    return 0


if __name__ == "__main__":
    program.run("edgefleet-triggers", main)
