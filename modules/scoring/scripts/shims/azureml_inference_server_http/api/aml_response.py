# ruff: noqa: INP001 - a namespace that other packages of the script's environment may share
"""The newer import path of ``azureml.contrib.services.aml_response``."""

from azureml.contrib.services.aml_response import AMLResponse

__all__ = ["AMLResponse"]
