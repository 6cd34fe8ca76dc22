# ruff: noqa: INP001 - a namespace that other packages of the script's environment may share
"""What entry scripts import as ``azureml.contrib.services.aml_response``; ours, written against its documented use."""

import json
from collections.abc import Mapping
from typing import Any

from azureml.contrib.services.aml_request import Headers  # type: ignore[import-not-found] # on the worker\'s sys.path


class AMLResponse:
    """A response with its own status and headers.

    With ``json_str`` the message is written as JSON, otherwise it is text or bytes.
    """

    def __init__(
        self,
        message: Any,
        status_code: int,
        response_headers: Mapping[str, Any] | None = None,
        json_str: bool = False,  # noqa: FBT001, FBT002 - the known signature
        run_function_failed: bool = False,  # noqa: FBT001, FBT002 - the known signature
    ) -> None:
        self.status_code = status_code
        self.run_function_failed = run_function_failed
        self.headers = Headers([("Content-Type", "application/json" if json_str else "text/html; charset=utf-8")])
        for name, value in (response_headers or {}).items():
            self.headers[name] = value
        self._body = b""
        if message is not None:
            self.set_data(json.dumps(message) if json_str else message)

    @property
    def data(self) -> bytes:
        return self._body

    def get_data(self, as_text: bool = False) -> Any:  # noqa: FBT001, FBT002 - the known signature
        return self._body.decode("utf-8", "replace") if as_text else self._body

    def set_data(self, value: str | bytes) -> None:
        self._body = value.encode() if isinstance(value, str) else bytes(value)
