"""The content door: where a pod fetches its module and the trust metadata that it rests on (agent/content).

Endpoints and batch jobs have each their own addresses, because an endpoint and a job may have the same name.
"""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from fleet.api.document import answers
from fleet.api.paths import DigestPath, EndpointPath, JobPath, ModulePath
from fleet.auth import public
from fleet.paced import paced
from fleet.people.identify import Authorization
from fleet.refusals import Missing, Unauthorised
from fleet.services import Services, Use, address
from fleet.targets.content import check_metadata
from modules.names import Digest, ModuleRef, Slug

router = APIRouter(prefix="/api/v1")
_BYTES: Final = "application/octet-stream"
_JSON: Final = "application/json"


class _OnItsWay(StreamingResponse):
    """Gives its place back however it ends."""

    end: Callable[[], None]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.end()


def _admitted(
    endpoint: EndpointPath, module: ModulePath, request: Request, use: Use, authorization: Authorization = None
) -> ModuleRef:
    """Which module the bearer of the token may fetch."""
    return _let_in(use.contents.admit, endpoint, module, request, use, authorization)


def _admitted_job(
    job: JobPath, module: ModulePath, request: Request, use: Use, authorization: Authorization = None
) -> ModuleRef:
    return _let_in(use.contents.admit_job, job, module, request, use, authorization)


def _let_in(
    admit: Callable[[Slug, Digest, str], ModuleRef],
    name: Slug,
    module: Digest,
    request: Request,
    use: Services,
    authorization: str | None,
) -> ModuleRef:
    scheme, _, token = (authorization or "").partition(" ")
    try:
        return admit(name, module, token.strip() if scheme.lower() == "bearer" else "")
    except Unauthorised:
        # Only here: whoever brings a token that holds is not kept out by others behind the same address.
        use.attempts.failed(address(request), use.clock())
        raise


Admitted = Annotated[ModuleRef, Depends(_admitted)]
AdmittedJob = Annotated[ModuleRef, Depends(_admitted_job)]


# Public, all: the token of the pod's settings is no operator's, and _admitted looks at it.
@router.get(
    "/content/{endpoint}/{module}/metadata/{name}",  # noqa: FAST003 - _admitted takes the rest
    dependencies=[Depends(public)],
    **answers(_JSON),
)
def content_metadata(name: str, admitted: Admitted, use: Use) -> Response:
    return _metadata(name, admitted, use)


@router.get(
    "/batch-content/{job}/{module}/metadata/{name}",  # noqa: FAST003 - _admitted_job takes the rest
    dependencies=[Depends(public)],
    **answers(_JSON),
)
def batch_content_metadata(name: str, admitted: AdmittedJob, use: Use) -> Response:
    return _metadata(name, admitted, use)


@router.get(
    "/content/{endpoint}/{module}/blobs/{name}", dependencies=[Depends(public), Depends(_admitted)], **answers(_BYTES)
)
def content_blob(endpoint: EndpointPath, module: ModulePath, name: DigestPath, use: Use) -> Response:
    return _blob(endpoint, module, name, use)


@router.get(
    "/batch-content/{job}/{module}/blobs/{name}",
    dependencies=[Depends(public), Depends(_admitted_job)],
    **answers(_BYTES),
)
def batch_content_blob(job: JobPath, module: ModulePath, name: DigestPath, use: Use) -> Response:
    return _blob(f"batch job {job}", module, name, use)


def _metadata(name: str, admitted: ModuleRef, use: Services) -> Response:
    check_metadata(admitted, name)
    return Response(use.metadata.file(name), media_type=_JSON)


def _blob(whose: str, module: Digest, name: Digest, use: Services) -> Response:
    use.contents.check_blob(module, name)
    length = use.blobs.length(name)
    if length is None:
        raise Missing("there is no such blob", element=name)
    use.contents.places.take(whose)
    answer = _OnItsWay(
        paced(use.blobs.path(name), range(length), limits=use.limits, meters=use.meters),
        headers={"Content-Length": str(length)},
        media_type=_BYTES,
    )
    answer.end = partial(use.contents.places.give_back, whose)
    return answer
