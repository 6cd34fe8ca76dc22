"""Azure ML's SDK (v1) for a fleet: a script written for it runs after its imports were changed, and nothing else.

::

    from azureml.core import Workspace, Model      ->  from fleet.client.sdk import Workspace, Model
    from azureml.core.model import InferenceConfig ->  from fleet.client.sdk.model import InferenceConfig

Everything here calls what the ``edgefleet`` commands call.
"""

from fleet.client.sdk.model import Model
from fleet.client.sdk.resource_configuration import ResourceConfiguration
from fleet.client.sdk.run import Experiment, Run
from fleet.client.sdk.workspace import Workspace

__all__ = ["Experiment", "Model", "ResourceConfiguration", "Run", "Workspace"]
