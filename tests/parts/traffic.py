"""An application on the device, which posts to the gateway every 10 ms and checks every answer."""

import http.client
import threading
import time
from collections.abc import Callable, Sequence
from itertools import groupby
from types import TracebackType
from typing import NamedTuple, Self

from tests.parts.pace import stretched

EVERY_S = 0.01
_ANSWER_S = stretched(30.0)


class Answer(NamedTuple):
    """What came: the status (0 where nothing came), which module answered, and what is wrong with it, if anything."""

    status: int
    module: str
    wrong: str


class Question(NamedTuple):
    """A request body, and what says that an answer to it is wrong (empty where it is right)."""

    body: bytes
    wrong: Callable[[bytes], str]


class Traffic:
    """Two clients, one that keeps its connection and one that makes a new one each time; both end with the block."""

    def __init__(
        self, port: int, path: str, questions: Sequence[Question], *, every_s: float = EVERY_S, host: str = "127.0.0.1"
    ) -> None:
        self._every_s, self._host = every_s, host
        self._port, self._path, self._questions = port, path, questions
        self._over = threading.Event()
        self._by_client: tuple[list[Answer], list[Answer]] = ([], [])
        self._threads = [
            threading.Thread(target=self._post, args=(keep, self._by_client[keep]), daemon=True)
            for keep in (True, False)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(_ANSWER_S + 5)

    @property
    def answers(self) -> list[Answer]:
        return [one for answers in self._by_client for one in answers]

    @property
    def failed(self) -> list[Answer]:
        return [one for one in self.answers if one.status != http.client.OK or one.wrong]

    def modules(self) -> tuple[list[str], ...]:
        """For each client who answered it, in order, repetitions left out."""
        return tuple([name for name, _ in groupby(one.module for one in answers)] for answers in self._by_client)

    def _post(self, keep: bool, answers: list[Answer]) -> None:  # noqa: FBT001 - a thread's argument
        connection, number = self._connection(), 0
        due = time.monotonic()
        while not self._over.is_set():
            question = self._questions[number % len(self._questions)]
            answers.append(self._ask(connection, question))
            number += 1
            if not keep:
                connection.close()
                connection = self._connection()
            due = max(due + self._every_s, time.monotonic())
            self._over.wait(due - time.monotonic())
        connection.close()

    def _ask(self, connection: http.client.HTTPConnection, question: Question) -> Answer:
        try:
            connection.request("POST", self._path, question.body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            return Answer(0, "", repr(error))
        module = response.headers.get("x-edgefleet-module", "")
        if response.status != http.client.OK:
            return Answer(response.status, module, answer[:300].decode(errors="replace"))
        return Answer(response.status, module, question.wrong(answer))

    def _connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self._host, self._port, timeout=_ANSWER_S)
