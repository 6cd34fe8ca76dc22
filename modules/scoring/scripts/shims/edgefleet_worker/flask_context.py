"""What scripts that import Flask expect while ``run()`` runs: ``flask.request``, ``g``, and an application."""

import importlib
import sys
from typing import Any, Self

from edgefleet_worker.frames import Head


class FlaskContext:
    """Makes the request context of each request."""

    def __init__(self, source: str) -> None:
        flask: Any = sys.modules["flask"]
        shim: Any = importlib.import_module("azureml.contrib.services.aml_request")
        self._environment = shim.AMLRequest.environment
        self._app = flask.Flask("entry_module", root_path=source)
        self._app.request_class = type("AMLRequest", (shim.AMLRequest, flask.Request), {})

    @classmethod
    def where_wanted(cls, source: str) -> Self | None:
        """One, where the script has imported Flask."""
        return cls(source) if "flask" in sys.modules else None

    def of(self, head: Head, body: bytes) -> Any:
        """The context of this request; its ``request`` is an ``AMLRequest`` too."""
        parts = (head["method"], head["path"], head["query"], head.get("headers", []), body)
        return self._app.request_context(self._environment(*parts))
