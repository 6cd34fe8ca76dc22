"""One input, from its first try to its answer: a bounded number of tries, counted across crashes of the container."""

import logging
import threading
from typing import Final

from modules.triggers.receipts import Receipts
from modules.triggers.scorer import Answer, Scorer

TRIES: Final = 3
_FIRST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 30.0
_log = logging.getLogger("modules.triggers")


class Poison(Exception):
    """This input will not be answered, and why."""


class Stopping(Exception):
    """The program is to end, and the input is as it was."""


class Inputs:
    """Asks the scoring server on behalf of inputs; ``stopping`` ends every wait."""

    def __init__(self, scorer: Scorer, receipts: Receipts, stopping: threading.Event) -> None:
        self.receipts, self.stopping = receipts, stopping
        self._scorer = scorer

    def answer(self, name: str, version: str, body: bytes, content_type: str) -> bytes:
        """The answer's body.

        A server that is busy is waited for as long as it takes. One that fails, or ends, is tried so many times.

        Raises:
            Poison: it will never be answered.
            Stopping: the program ends; the input stays.
            NotReady: the scoring server has ended.
        """
        pause, last = _FIRST_PAUSE_S, ""
        while True:
            if self.stopping.is_set():
                raise Stopping
            if self.receipts.begin(name, version) > TRIES:
                raise Poison(last or f"the scoring server ended while it worked on this, {TRIES} times")
            answer: Answer = self._scorer.ask(body, content_type)
            if answer.good:
                return answer.body
            last = answer.why
            if answer.hopeless:
                raise Poison(last)
            if answer.busy:
                self.receipts.take_back(name, version)
            _log.warning("%r: %s", name, last)
            self.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    def wait(self, seconds: float) -> None:
        """Wait, unless the program is to end.

        Raises:
            Stopping: it is.
        """
        if self.stopping.wait(seconds):
            raise Stopping
