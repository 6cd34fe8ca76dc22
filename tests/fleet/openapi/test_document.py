"""Requests made from the server's own OpenAPI document, as each role: no failure, and nothing that it may not see."""

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
)

from fleet.people.roles import ROLES
from tests.fleet.openapi.asking import Server
from tests.fleet.openapi.drawn import operations, sent
from tests.fleet.openapi.marks import MARK
from tests.parts.api_routes import asked

CHECKS = [not_a_server_error, content_type_conformance, response_headers_conformance, response_schema_conformance]
# What any route may answer without saying so; every other status stands in the document.
REFUSALS = {401, 403, 404, 405, 409, 413, 415, 422, 429}
FEW, MANY = 2, 200
# Between them they may see and change most; the others take as long again each.
SOME = [role if role == "operator" else pytest.param(role, marks=pytest.mark.long) for role in sorted(ROLES)]
# The server draws delays in its own thread while hypothesis draws requests.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
PERMISSIONS = {(method, path): permission for method, path, permission in asked()}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("openapi")) as server:
        yield server


def held(server, operation, asker, case) -> int:
    """One request of somebody, its answer held against the document and against what they may see; its status."""
    request = sent(case, asker.headers)
    answer = server.ask(request)
    told = f"{asker.who}: {request.method} {request.url}\n{request.body!r}\n{answer.status_code} {answer.text}"
    assert answer.status_code in operation.declared | REFUSALS, told
    named = set(MARK.findall(f"{request.url} {request.body!r}"))
    shown = set(MARK.findall(f"{answer.headers} {answer.text}"))
    assert (shown - named) & asker.hidden == set(), told
    case.validate_response(answer, checks=CHECKS)
    return answer.status_code


def tried(server, role: str, examples: int, **more) -> int:
    """Each operation of the document with so many requests, each sent by everybody who has the role; the successes.

    One is enough where the role lacks the permission, and one asker where no permission is needed.
    """
    successes: list[int] = []
    for operation in operations(server.document, server.planted):
        askers = server.askers[role][-1:] if operation.public else server.askers[role]
        permission = PERMISSIONS.get((operation.method, operation.path))
        bounds = settings(
            max_examples=examples if permission is None or permission in ROLES[role] else 1,
            deadline=None,
            database=None,
            print_blob=True,
            report_multiple_bugs=False,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
            **more,
        )

        def example(case) -> None:
            for asker in askers:  # noqa: B023 - called within this turn
                status = held(server, operation, asker, case)  # noqa: B023
                successes.append(status < 400)

        bounds(hypothesis.given(operation.cases)(example))()
    return sum(successes)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("role", SOME)
def test_no_request_of_a_role_fails_or_is_shown_what_the_role_may_not_see(server, role):
    """By a browser's session, and by tokens for one group, for one team, and for both; the same requests each time."""
    assert tried(server, role, FEW, derandomize=True) > 10


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("role", sorted(ROLES))
def test_no_request_of_a_role_fails_whatever_it_is(server, role):
    """Two hundred for each operation, others each time; a failure prints how to have it again."""
    tried(server, role, MANY)
