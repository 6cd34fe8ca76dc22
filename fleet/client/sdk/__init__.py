"""Azure ML's SDK (v1) for a fleet: a script written for it runs after its imports were changed, and nothing else.

::

    from azureml.core import Workspace, Model      ->  from fleet.client.sdk import Workspace, Model
    from azureml.core.model import InferenceConfig ->  from fleet.client.sdk.model import InferenceConfig

Everything here calls what the ``edgefleet`` commands call.
"""

from fleet.client.sdk.compute import AksCompute, ComputeTarget
from fleet.client.sdk.conda_dependencies import CondaDependencies
from fleet.client.sdk.environment import ContainerRegistry, Environment
from fleet.client.sdk.exceptions import WebserviceException
from fleet.client.sdk.inference_config import InferenceConfig
from fleet.client.sdk.model import Model
from fleet.client.sdk.package import ModelPackage
from fleet.client.sdk.profile import ModelProfile
from fleet.client.sdk.resource_configuration import ResourceConfiguration
from fleet.client.sdk.run import Experiment, Run
from fleet.client.sdk.webservice import AciWebservice, AksEndpoint, AksWebservice, LocalWebservice, Webservice
from fleet.client.sdk.workspace import Workspace

__all__ = [
    "AciWebservice",
    "AksCompute",
    "AksEndpoint",
    "AksWebservice",
    "ComputeTarget",
    "CondaDependencies",
    "ContainerRegistry",
    "Environment",
    "Experiment",
    "InferenceConfig",
    "LocalWebservice",
    "Model",
    "ModelPackage",
    "ModelProfile",
    "ResourceConfiguration",
    "Run",
    "Webservice",
    "WebserviceException",
    "Workspace",
]
