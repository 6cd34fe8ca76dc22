"""Reference answers, asked of the very scoring server that will serve, for devices to be held to."""

import re
from collections.abc import Sequence
from typing import Final

import httpx

from fleet.client.local.scorers import Scorer
from fleet.client.models.sample_requests import Request
from fleet.client.screen import Counted, Step
from modules.errors import Unproved, WrongAnswer
from modules.samples import Comparison, Sample, Samples, differences

_SUCCESS: Final = range(200, 300)
_SHOWN: Final = 400
_LOG_LINES: Final = 15
# What a run() says that was written for a request and was given the request's body.
_WANTS_REQUEST: Final = re.compile(
    r"'(?:str|bytes|dict|list)' object has no attribute '(?:args|cookies|data|files|form|get_data|get_json|headers|json"
    r"|method|mimetype|path|stream|url|values)'|name 'request' is not defined|[Ww]orking outside of request context"
)
_RAWHTTP: Final = (
    "put @rawhttp above run() (from azureml.contrib.services.aml_request import rawhttp), which then gets the request "
    "itself; without it run() gets the body"
)
_OTHER_SAMPLES: Final = "give requests that the model takes: --sample FILE.json"


def compute(requests: Sequence[Request], scorer: Scorer, step: Step) -> Samples:
    """Ask each request twice and keep the answer.

    Raises:
        Unproved: the server refuses a request, fails on it, or answers the same request differently.
        WrongAnswer: an answer is not the one that the user expects.
    """
    samples = []
    for number, request in enumerate(requests):
        step(Counted("computing reference answers"), number, len(requests))
        samples.append(_sample(request, scorer))
    return Samples(tuple(samples))


def _sample(request: Request, scorer: Scorer) -> Sample:
    first = _ask(request, scorer)
    answer_type = first.headers.get("content-type", "application/octet-stream")
    rule = request.comparison(answer_type)
    sample = _as_sample(request, first, answer_type, rule)
    if request.expect is not None:
        expected = _as_sample(request, first, answer_type, rule, answer_body=request.expect)
        if wrong := differences(expected, first.status_code, first.content):
            raise WrongAnswer(
                f"the model does not give the expected answer: {'; '.join(wrong)}",
                element=f"sample {request.name}",
                remedy="correct the model, the expectation, or say how to compare them in the sample's key compare",
            )
    second = _ask(request, scorer)
    if unsteady := differences(sample, second.status_code, second.content):
        raise Unproved(
            f"the model answers the same request differently: {'; '.join(unsteady)}",
            element=f"sample {request.name}",
            remedy='fix its random seed, say in the sample how to compare ({"how": "top-k", "field": ...}), '
            "or register it with --prove ready-only",
        )
    return sample


def _as_sample(
    request: Request, answer: httpx.Response, answer_type: str, rule: Comparison, *, answer_body: bytes | None = None
) -> Sample:
    return Sample(
        name=request.name, path=request.path, method=request.method, content_type=request.content_type,
        body=request.body, status=answer.status_code, answer_type=answer_type,
        answer=answer.content if answer_body is None else answer_body, compare=rule,
    )  # fmt: skip


def _ask(request: Request, scorer: Scorer) -> httpx.Response:
    headers = {"Content-Type": request.content_type}
    try:
        answer = scorer.http.request(request.method, request.path, content=request.body, headers=headers)
    except httpx.HTTPError as error:
        raise Unproved(
            f"the scoring server gave no answer: {str(error) or type(error).__name__}{_log(scorer)}",
            element=f"sample {request.name}",
        ) from error
    if answer.status_code not in _SUCCESS:
        raise Unproved(
            f"the model answers {answer.status_code}: {answer.text[:_SHOWN]}{_log(scorer)}",
            element=f"sample {request.name}",
            remedy=_RAWHTTP if _WANTS_REQUEST.search(answer.text) else _OTHER_SAMPLES,
        )
    return answer


def _log(scorer: Scorer) -> str:
    lines = scorer.log_tail(_LOG_LINES)
    return f"\nlast lines of its log:\n{lines}" if lines else ""
