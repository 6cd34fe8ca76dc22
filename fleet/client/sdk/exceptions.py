"""What the SDK raises, under the names that scripts catch; the words are those of the project's own errors.

::

    AzureMLException
    ├── UserErrorException              an argument, a file or a configuration cannot be used
    ├── WorkspaceException              no fleet server is known, or it refuses
    ├── ComputeTargetException          a place to run on is not there
    └── WebserviceException             a model or a service: not there, refused, failed
        ├── ModelNotFoundException      no such model, or not in this version
        └── ModelPathNotFoundException  no such file to register

Each has ``message``, ``element`` (what it is about), ``remedy`` (what to do) and ``code``, which is that of
:mod:`modules.errors` behind it.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from modules.errors import EdgefleetError


class AzureMLException(EdgefleetError):
    """Root of the tree; the code is that of what the SDK itself finds wrong."""

    code = "sdk"


class UserErrorException(AzureMLException):
    pass


class WorkspaceException(AzureMLException):
    pass


class ComputeTargetException(AzureMLException):
    pass


class WebserviceException(AzureMLException):
    pass


class ModelNotFoundException(WebserviceException):
    pass


class ModelPathNotFoundException(WebserviceException):
    pass


@contextmanager
def told_as(
    kind: type[AzureMLException], *, of: tuple[type[EdgefleetError], ...] = (EdgefleetError,)
) -> Iterator[None]:
    """What the project's own code raises within the block, or only errors ``of`` some kinds, as scripts catch it."""
    try:
        yield
    except AzureMLException:
        raise
    except of as error:
        told = kind(error.message, element=error.element, remedy=error.remedy)
        told.code = error.code
        raise told from error
