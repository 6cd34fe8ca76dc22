"""The requests that become samples: the user's files, or seeded random values for a bare graph."""

import mimetypes
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec

from modules.canonical import UNREADABLE
from modules.errors import Invalid
from modules.samples import Comparison, Exact, MediaType, Method, Numeric, Target

SEED: Final = 20200101
RANDOM_COUNT: Final = 3
MAX_VALUES: Final = 4 << 20
DECIMALS: Final = 6
_GIVE_SAMPLES: Final = "give requests of your own: --sample FILE.json"


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A request without its reference answer; ``expect`` is an answer's JSON that the user vouches for, encoded."""

    name: str
    path: str = "/score"
    method: str = "POST"
    content_type: str = "application/json"
    body: bytes
    expect: bytes | None = None
    compare: Comparison | None = None

    def comparison(self, answer_type: str) -> Comparison:
        """The user's choice, else numbers within tolerance for JSON, and the same bytes for anything else."""
        return self.compare or (Numeric() if "json" in answer_type else Exact())


class _SampleFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A JSON file with the key ``body``: JSON, or text where ``content_type`` says so, or base64 in ``body_base64``."""

    body: Any = msgspec.UNSET
    body_base64: bytes | msgspec.UnsetType = msgspec.UNSET
    content_type: MediaType = "application/json"
    path: Target = "/score"
    method: Method = "POST"
    expect: Any = msgspec.UNSET
    compare: Comparison | None = None


class _Schema(msgspec.Struct, frozen=True):
    """A schema, or the name of one among the document's components."""

    ref: str = msgspec.field(name="$ref", default="")
    example: Any = msgspec.UNSET


class _Content(msgspec.Struct, frozen=True):
    schema: _Schema = _Schema()
    example: Any = msgspec.UNSET


class _Body(msgspec.Struct, frozen=True):
    content: dict[str, _Content]


class _Operation(msgspec.Struct, frozen=True, rename="camel"):
    request_body: _Body = _Body({})


class _Path(msgspec.Struct, frozen=True):
    post: _Operation = _Operation()


class _Components(msgspec.Struct, frozen=True):
    schemas: dict[str, _Schema] = {}


class _OpenApi(msgspec.Struct, frozen=True):
    """What we read of an OpenAPI 3 document."""

    paths: dict[str, _Path]
    components: _Components = _Components()

    def example(self) -> Any:
        """The example of what ``/score`` takes, where its description has one."""
        content = self.paths["/score"].post.request_body.content["application/json"]
        named = self.components.schemas.get(content.schema.ref.rpartition("/")[2], content.schema)
        return named.example if content.example is msgspec.UNSET else content.example


def read_request(file: Path) -> Request:
    """A sample file of the user.

    A JSON object with the key ``body`` or ``body_base64`` describes a request; every other file is a request's body
    itself, its content type told by its ending.

    Raises:
        Invalid: it cannot be read, or says something that no sample has.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise Invalid(f"the sample cannot be read: {error.strerror}", element=str(file)) from error
    name = file.name.removesuffix(".json")
    if file.suffix != ".json":
        kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        return Request(name=name, content_type=kind, body=data)
    try:
        document = msgspec.json.decode(data)
        if not isinstance(document, dict) or not document.keys() & {"body", "body_base64"}:
            return Request(name=name, body=data)
        described = msgspec.convert(document, _SampleFile)
        return _described(name, described)
    except UNREADABLE as error:
        raise Invalid(
            f"this is not a sample: {error}",
            element=str(file),
            remedy='write {"body": REQUEST, "expect": ANSWER}; a request with a key "body" of its own goes inside body',
        ) from error


def _described(name: str, described: _SampleFile) -> Request:
    if isinstance(described.body_base64, bytes):
        body = described.body_base64
    elif isinstance(described.body, str) and "json" not in described.content_type:
        body = described.body.encode()
    else:
        body = msgspec.json.encode(described.body)
    expect = None if described.expect is msgspec.UNSET else msgspec.json.encode(described.expect)
    return Request(
        name=name, path=described.path, method=described.method, content_type=described.content_type, body=body,
        expect=expect, compare=described.compare,
    )  # fmt: skip


def graph_requests(http: httpx.Client, *, count: int = RANDOM_COUNT, decimals: int = DECIMALS) -> tuple[Request, ...]:
    """Requests for a bare graph: its own example with seeded values, the same for the same graph.

    The example is the scoring server's, which has tried for which sizes of free dimensions the graph runs. Whole
    numbers that the graph refuses, as places beyond its table's end, stay those of the example.

    Raises:
        Invalid: the server has no example, or one that is too large.
    """
    example = _declared(http)
    if example is msgspec.UNSET:
        raise Invalid(
            "no sizes were found for which the graph runs, so no request can be made up",
            element="sample",
            remedy=_GIVE_SAMPLES,
        )
    values = _count(example)
    if values > MAX_VALUES:
        raise Invalid(f"{values} values are too many for a random sample", element="sample", remedy=_GIVE_SAMPLES)
    requests = _made_up(example, count, _Made(decimals=decimals))
    if _has_whole(example) and not all(http.post("/score", content=one.body).is_success for one in requests):
        return _made_up(example, count, _Made(decimals=decimals, whole=False))
    return requests


class _Made(msgspec.Struct, frozen=True):
    """How values are made up: fractions with so many decimals, and whether ``whole`` numbers are others, too."""

    decimals: int
    whole: bool = True


def _made_up(example: Any, count: int, made: _Made) -> tuple[Request, ...]:
    import numpy as np  # noqa: PLC0415  a tenth of a second, for registering alone

    generator = np.random.Generator(np.random.PCG64(SEED))
    bodies = (msgspec.json.encode(_varied(example, generator, made)) for _ in range(count))
    return tuple(Request(name=f"random-{number}", body=body) for number, body in enumerate(bodies, 1))


def script_request(http: httpx.Client) -> Request:
    """The sample input that an entry script declares (``inference-schema``), from its OpenAPI document.

    Raises:
        Invalid: it declares none.
    """
    example = _declared(http)
    # A script that declares nothing has an example too: an empty object.
    if not example or example is msgspec.UNSET:
        raise Invalid(
            "the entry script declares no sample input, so no device could prove that it works",
            element="/swagger.json",
            remedy="add --sample FILE.json, decorate run() with input_schema, or say --prove ready-only",
        )
    return Request(name="declared", body=msgspec.json.encode(example))


def _declared(http: httpx.Client) -> Any:
    """The example in the server's OpenAPI document; UNSET where there is none."""
    answer = http.get("/swagger.json", params={"version": "3"})
    try:
        return msgspec.json.decode(answer.content, type=_OpenApi).example() if answer.is_success else msgspec.UNSET
    except (*UNREADABLE, KeyError):
        return msgspec.UNSET


def _count(value: Any) -> int:
    if isinstance(value, dict | list):
        return sum(map(_count, value.values() if isinstance(value, dict) else value))
    return 1


def _has_whole(value: Any) -> bool:
    if isinstance(value, dict | list):
        return any(map(_has_whole, value.values() if isinstance(value, dict) else value))
    return isinstance(value, int) and not isinstance(value, bool)


def _varied(value: Any, generator: Any, made: _Made) -> Any:
    """The same lists and keys around other values of the same kind."""
    if isinstance(value, dict):
        return {key: _varied(one, generator, made) for key, one in value.items()}
    if isinstance(value, list):
        return [_varied(one, generator, made) for one in value]
    if isinstance(value, str):
        return "sample"
    if isinstance(value, bool):
        return bool(generator.random() < 0.5)  # noqa: PLR2004  even odds
    if isinstance(value, int):
        # Zeros and ones: what an index, a mask and a count have in common.
        return int(generator.integers(0, 2)) if made.whole else value
    # Without decimals 0 and 1, which take the fewest bytes.
    return round(float(generator.random()), made.decimals or None)
