# ruff: noqa: INP001 - a namespace that other packages of the script's environment may share
"""What entry scripts import as ``azureml.contrib.services.aml_request``; our own, written against its documented use.

This folder is put on the ``sys.path`` of a worker process; nothing else imports it. It stands without ``__init__.py``,
since ``azureml`` is a namespace that other packages of the script's environment may share.
"""

import json
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def rawhttp(function: F) -> F:
    """Mark ``run`` as taking an :class:`AMLRequest` instead of the body's text."""
    function.raw_http = True  # type: ignore[attr-defined] # functions take attributes
    return function


class Headers(MutableMapping[str, str]):
    """Header fields in order; names are found whatever their case, and may repeat."""

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self._pairs = [(str(name), str(value)) for name, value in pairs]

    def __getitem__(self, name: str) -> str:
        for key, value in self._pairs:
            if key.lower() == name.lower():
                return value
        raise KeyError(name)

    def __setitem__(self, name: str, value: object) -> None:
        self.pop(name, None)
        self.add(name, value)

    def __delitem__(self, name: str) -> None:
        self[name]
        self._pairs = [pair for pair in self._pairs if pair[0].lower() != name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter([name for name, _ in self._pairs])

    def __len__(self) -> int:
        return len(self._pairs)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and any(key.lower() == name.lower() for key, _ in self._pairs)

    def add(self, name: str, value: object) -> None:
        """Add a field beside those of the same name."""
        self._pairs.append((name, str(value)))

    def getlist(self, name: str) -> list[str]:
        return [value for key, value in self._pairs if key.lower() == name.lower()]

    def items(self) -> list[tuple[str, str]]:  # type: ignore[override] # repeated fields stay repeated
        return list(self._pairs)


class Args(dict[str, str]):
    """Query parameters; of a repeated one, ``[]`` gives the first and ``getlist`` all."""

    def __init__(self, query: str) -> None:
        self._pairs = urllib.parse.parse_qsl(query, keep_blank_values=True)
        super().__init__(reversed(self._pairs))

    def getlist(self, name: str) -> list[str]:
        return [value for key, value in self._pairs if key == name]


class AMLRequest:
    """One HTTP request: ``method``, ``path``, ``headers``, ``args`` and the body."""

    def __init__(self, *, method: str, path: str, query: str, headers: Iterable[tuple[str, str]], body: bytes) -> None:
        self.method = method
        self.path = path
        self.query_string = query.encode()
        self.full_path = f"{path}?{query}"
        self.headers = Headers(headers)
        self.args = Args(query)
        self.data = body

    @property
    def content_type(self) -> str | None:
        return self.headers.get("content-type")

    @property
    def mimetype(self) -> str:
        return (self.content_type or "").partition(";")[0].strip().lower()

    @property
    def content_length(self) -> int:
        return len(self.data)

    @property
    def is_json(self) -> bool:
        return self.mimetype == "application/json" or (
            self.mimetype.startswith("application/") and self.mimetype.endswith("+json")
        )

    @property
    def json(self) -> Any:
        return self.get_json()

    def get_data(self, cache: bool = True, as_text: bool = False) -> Any:  # noqa: FBT001, FBT002, ARG002 - the known signature
        """The body as bytes, or decoded from UTF-8."""
        return self.data.decode("utf-8", "replace") if as_text else self.data

    def get_json(self, force: bool = False, silent: bool = False, cache: bool = True) -> Any:  # noqa: FBT001, FBT002, ARG002 - the known signature
        """The body as JSON.

        Raises:
            ValueError: it is none, or its content type does not say so; with ``silent`` None is returned instead.
        """
        if not (force or self.is_json):
            if silent:
                return None
            raise ValueError(f"the content type is {self.content_type!r}, not application/json")
        try:
            return json.loads(self.data)
        except ValueError:
            if silent:
                return None
            raise
