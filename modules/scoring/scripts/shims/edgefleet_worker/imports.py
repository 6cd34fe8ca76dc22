"""How a script's imports are found: its own folders before our packages, and onnxruntime's sessions observed."""

import importlib.abc
import importlib.machinery
import pathlib
import types
from collections.abc import Sequence
from typing import Any

from edgefleet_worker.frames import Head

# Our own top-level packages: a user's folder of that name wins, even one without __init__.py.
OURS = frozenset({"agent", "fleet", "hardware", "modules"})
_SHIMS = pathlib.Path(__file__).parent.parent
# Of these there is only ours, where Azure ML's own server stands in the same environment too.
_REPLACED = {
    "azureml_inference_server_http": _SHIMS,
    "azureml.contrib.services.aml_request": _SHIMS / "azureml/contrib/services",
    "azureml.contrib.services.aml_response": _SHIMS / "azureml/contrib/services",
}


class Import(importlib.abc.MetaPathFinder):
    """Before all other finders."""

    def __init__(self, source: str, sessions: "Sessions | None") -> None:
        self._source = source
        self._sessions = sessions

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, _target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name in OURS and pathlib.Path(self._source, name).is_dir():
            return importlib.machinery.PathFinder.find_spec(name, [self._source])
        if name in _REPLACED:
            return importlib.machinery.PathFinder.find_spec(name, [str(_REPLACED[name])])
        if name.startswith("azureml."):
            # Some packages of that name have an __init__.py, and would hide ours.
            ours = str(_SHIMS.joinpath(*name.split(".")[:-1]))
            return importlib.machinery.PathFinder.find_spec(name, [ours, *(path or ())])
        if name != "onnxruntime" or self._sessions is None:
            return None
        observe = self._sessions.observe
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec and spec.loader:
            execute = spec.loader.exec_module

            def exec_module(module: types.ModuleType) -> None:
                execute(module)
                observe(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign] # only this spec's own loader
        return spec


class Sessions:
    """What the script runs on: sizes each onnxruntime session from the cores granted, and sees its provider."""

    def __init__(self, threads: int, providers: list[Any]) -> None:
        self._threads = threads
        self._providers = [(name, options) for name, options in providers]
        self._told: Head = {"onnxruntime": None, "provider": None}
        self._news = True

    def observe(self, module: types.ModuleType) -> None:
        """Wrap ``InferenceSession.__init__``: thread count and providers where the script leaves them open."""
        if not hasattr(module, "InferenceSession"):
            return
        self._tell(onnxruntime=module.__version__)
        original = module.InferenceSession.__init__

        def observed(
            session: Any, model: Any, sess_options: Any = None, providers: Any = None, *rest: Any, **more: Any
        ) -> None:
            sess_options = sess_options or module.SessionOptions()
            sess_options.intra_op_num_threads = sess_options.intra_op_num_threads or self._threads
            here = module.get_available_providers()
            wanted = providers or [one for one in self._providers if one[0] in here] or None
            original(session, model, sess_options, wanted, *rest, **more)
            self._tell(provider=session.get_providers()[0])

        module.InferenceSession.__init__ = observed

    def news(self) -> Head:
        """What the server has not been told yet."""
        self._news, news = False, self._news
        return {"sessions": self._told} if news else {}

    def _tell(self, **told: str) -> None:
        self._told |= told
        self._news = True
