# ruff: noqa: INP001 - a namespace that other packages of the script's environment may share
"""The newer import path of ``azureml.contrib.services.aml_request``."""

from azureml.contrib.services.aml_request import AMLRequest, rawhttp

__all__ = ["AMLRequest", "rawhttp"]
