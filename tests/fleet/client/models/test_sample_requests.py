"""What a sample file says is what is asked; random samples repeat themselves."""

import json

import httpx
import pytest

from fleet.client.models.sample_requests import graph_requests, read_request
from modules.errors import Invalid
from modules.samples import TopK


def write(tmp_path, name, content):
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return file


def test_a_described_request_is_taken_apart(tmp_path):
    """Body, content type, expectation and comparison are read from a file with a body."""
    compare = {"how": "top-k", "field": "scores", "k": 2}
    request = read_request(write(tmp_path, "seven.json", {"body": {"x": [1]}, "expect": {"y": 2}, "compare": compare}))

    assert (request.name, request.body, request.expect) == ("seven", b'{"x":[1]}', b'{"y":2}')
    assert request.compare == TopK("scores", 2)


def test_a_json_file_without_a_body_is_the_body(tmp_path):
    """Whatever else is JSON is sent as it is, byte for byte."""
    content = b'{ "data": [1, 2.50] }'

    assert read_request(write(tmp_path, "raw.json", content)).body == content


@pytest.mark.parametrize(
    ("name", "kind"), [("cat.jpg", "image/jpeg"), ("a.csv", "text/csv"), ("blob.zzz", "application/octet-stream")]
)
def test_a_raw_file_has_its_endings_content_type(tmp_path, name, kind):
    """A picture is a request as it is."""
    request = read_request(write(tmp_path, name, b"\x00\x01"))

    assert (request.content_type, request.body) == (kind, b"\x00\x01")


def test_text_and_binary_bodies_can_be_described(tmp_path):
    """A body may be text of another type, or base64."""
    text = read_request(write(tmp_path, "t.json", {"body": "a,b", "content_type": "text/csv"}))
    binary = read_request(write(tmp_path, "b.json", {"body_base64": "AAE=", "content_type": "image/png"}))

    assert (text.body, binary.body) == (b"a,b", b"\x00\x01")


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        {"body": 1, "expects": 2},
        {"body": 1, "compare": {"how": "roughly"}},
        {"body": 1, "path": "/score?x=\u00e4"},
        {"body": 1, "method": "post"},
    ],
)
def test_a_file_that_is_no_sample_is_refused(tmp_path, content):
    """Torn JSON, unknown keys and unknown comparisons are errors that name the file."""
    file = write(tmp_path, "bad.json", content)

    with pytest.raises(Invalid) as caught:
        read_request(file)

    assert caught.value.element == str(file)


def server(example):
    """A scoring server that describes itself with this example; with None it has found no sizes that run."""
    content = {"schema": {}} if example is None else {"schema": {}, "example": example}
    document = {"paths": {"/score": {"post": {"requestBody": {"content": {"application/json": content}}}}}}
    return httpx.Client(
        transport=httpx.MockTransport(lambda _: httpx.Response(200, json=document)), base_url="http://scoring"
    )


def test_random_samples_are_the_same_each_time():
    """The same graph gives the same samples, with the sizes and kinds of values of the server's own example."""
    example = {"x": [[0.0] * 224], "ids": [0, 0, 0], "mask": [False], "text": [[""]], "map": {"3": 0.0}, "scalar": 0.0}

    first, again = graph_requests(server(example)), graph_requests(server(example))
    body = json.loads(first[0].body)

    assert first == again
    assert len({request.body for request in first}) == len(first)
    assert len(body["x"][0]) == 224
    assert set(body["ids"]) <= {0, 1}
    assert {type(one) for one in body["mask"]} == {bool}
    assert body["text"] == [["sample"]]
    assert list(body["map"]) == ["3"]
    assert isinstance(body["scalar"], float)


@pytest.mark.parametrize("example", [None, {"x": [[0.0] * 2048] * 2049}], ids=["none", "huge"])
def test_what_cannot_be_made_up_asks_for_a_sample(example):
    """A graph that runs with no size tried, and huge tensors, need a sample of the user's own."""
    with pytest.raises(Invalid) as caught:
        graph_requests(server(example))

    assert "--sample" in caught.value.remedy
