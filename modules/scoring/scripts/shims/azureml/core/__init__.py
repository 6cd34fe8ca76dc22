"""What entry scripts import as ``azureml.core``: its ``Model``, and a clear word about the rest."""

from typing import NoReturn

from azureml.core.model import Model

__all__ = ["Model"]


def __getattr__(name: str) -> NoReturn:
    raise AttributeError(
        f"azureml.core.{name} is not there: a module has no Azure ML workspace, and of azureml.core only Model"
    )
