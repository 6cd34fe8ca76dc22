# ruff: noqa: INP001 - a folder on the path of a script, not a package
"""The entry script, under its name in a worker, for the processes that it starts: joblib's and multiprocessing's.

In the worker itself the script is loaded by its path, and this file is not. A child that is given a function of the
script looks for the function's module by name, finds this file, and loads the script instead of it.
"""

import importlib.util
import os
import sys

from edgefleet_worker.imports import Import

_spec = importlib.util.spec_from_file_location(__name__, os.environ["AZUREML_ENTRY_SCRIPT"])
if _spec is None or _spec.loader is None:
    raise ImportError(f"{os.environ['AZUREML_ENTRY_SCRIPT']} is not a Python file")
sys.meta_path.insert(0, Import(os.environ["EDGEFLEET_SCRIPT_SOURCE"], None))
sys.modules[__name__] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(sys.modules[__name__])
