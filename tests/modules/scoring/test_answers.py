"""What a server says of its own answers: a sample of them, at a bounded price, for graphs and scripts alike."""

import json
import random
import time

import numpy as np
import pytest

from modules.manifest import ModelSet, OnnxGraph, Pipeline, Step
from modules.scoring.answers import MOST_NUMBERS, Answers, Counted, of_document, of_script, total
from modules.scoring.graphs.output_look import of_outputs
from modules.scoring.runtime import Answer
from modules.sketch import BINS, bin_of, distance

SCRIPT = """
import json
def init():
    pass
def run(data):
    return json.loads(data)["answer"]
"""


def sketch(*values):
    counts = [0] * BINS
    for value in values:
        counts[bin_of(value)] += 1
    return counts


def shown(found):
    one = Answers()
    one.look(lambda: found)
    told = total([one])
    return told["nan"], told["empty"], told["values"]


def told(server, looked=None):
    """What the status says, once it has looked at so many."""

    def answers():
        return server.ask("/edgefleet/status").json["answers"]

    if looked is not None:
        server.until(lambda: answers()["looked"] >= looked, f"{looked} looks, not {answers()}")
    return answers()


def ask(server, body, path="/score", times=1, **more):
    """Ask until so many of the answers have been looked at: a look comes before its answer, and not with each."""
    for _ in range(times):
        before = told(server)["looked"]

        def is_looked_at(before=before):
            reply = server.ask(path, body, **more)
            assert reply.status == 200, reply.body
            return told(server)["looked"] > before

        server.until(is_looked_at, "a look")


@pytest.fixture(scope="module")
def server(start, relu):
    return start("--model", relu).ready()


class TestGraph:
    def test_answers_are_counted_and_sketched(self, server):
        """How many had a number that is none, how many were empty, and how the numbers are spread."""
        assert told(server) == {"looked": 0, "nan": 0, "empty": 0, "values": []}
        ask(server, {"x": [[0.0, 1.0, 3.0, 100.0]]}, times=3)
        ask(server, {"x": [[None, 1.0, 3.0, 100.0]]}, times=2)
        ask(server, {"x": np.zeros((0, 4)).tolist()})
        found = told(server, 6)

        assert (found["looked"], found["nan"], found["empty"]) == (6, 2, 1)
        assert found["values"] == sketch(*[0.0] * 3, *[1.0, 3.0, 100.0] * 5)

    def test_every_door_is_watched(self, server):
        """Whether it was asked for JSON or bytes, at /score or below /v2."""
        before = told(server)["looked"]
        ask(server, {"x": [[1.0] * 4]}, headers={"accept": "application/octet-stream"})
        v2 = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1.0] * 4}]}
        ask(server, v2, "/v2/models/graph/infer")

        assert told(server)["looked"] == before + 2

    def test_refused_requests_are_no_answers(self, server):
        """What was not answered has no numbers."""
        before = told(server)
        assert server.ask(body={"x": [["a"]]}).status == 400

        assert told(server) == before

    def test_looks_are_far_apart(self, server):
        """A flood of requests brings twenty looks a second at most."""
        before, began = told(server)["looked"], time.monotonic()
        for _ in range(200):
            server.ask(body={"x": [[1.0] * 4]})
        took = time.monotonic() - began

        assert 1 <= told(server)["looked"] - before <= took / 0.05 + 1


def test_answers_of_a_script_are_looked_at(start, script):
    """What run() returns: documents, JSON in a text as Azure ML's scripts write it, and NaN in either."""
    server = start("--script", script(SCRIPT)).ready()
    for number, answer in enumerate(
        [
            {"label": [3], "score": [0.9]},
            json.dumps({"score": [0.9]}),
            [float("nan"), 1.0],
            json.dumps([float("inf")]),
            {"label": []},
            "a word",
        ]
    ):
        ask(server, {"answer": answer})
        told(server, number + 1)
    found = told(server)

    assert (found["looked"], found["nan"], found["empty"]) == (6, 2, 1)
    assert found["values"] == sketch(3, 0.9, 0.9, 1.0)


def test_a_composites_answers_are_counted_once(start, module, relu):
    """Of models that work together the answers to clients count, and not what passes between them."""
    names = ("one", "two")
    steps = (
        Step(model="one", inputs={"x": "input.x"}),
        Step(model="two", inputs={"x": "one.y"}),
    )
    serve = ModelSet(
        models={**{name: OnnxGraph(file=f"model/{name}.onnx") for name in names}, "both": Pipeline(steps=steps)},
        main="both",
    )
    server = start("--module", module(serve, dict.fromkeys(names, relu))).ready()
    ask(server, {"x": [[1.0] * 4]}, "/score")

    assert told(server)["looked"] == 1


class TestLook:
    def test_the_many_at_once_are_as_the_one(self):
        """Arrays fall into the bins that single numbers do: at every power, sign and edge."""
        chance = random.Random(7)
        values = [0.0, -0.0, 1.0, -1.0, 2.0**15, 2.0**16, 2.0**-15, 2.0**-17, 1e300, -1e-300, 5e-324]
        values += [chance.choice((-1, 1)) * 2 ** chance.uniform(-20, 20) for _ in range(900)]

        assert shown(of_outputs([np.array(values)])) == (0, 0, sketch(*values))
        assert shown(of_outputs([np.array(values)])) == shown(of_document(values))

    @pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "uint8", "int64", "uint64", "bool"])
    def test_every_type_of_number(self, dtype):
        """Labels and logits are numbers all the same."""
        assert shown(of_outputs([np.array([0, 1, 1], dtype)])) == (0, 0, sketch(0, 1, 1))

    def test_null_in_a_list_stands_for_a_number(self):
        """So NaN is written; as a value of its own it is something that is left out."""
        assert shown(of_document({"y": [None, 2.0], "why": None})) == (1, 0, sketch(2.0))
        assert shown(of_document({"y": [2.0], "why": None})) == (0, 0, sketch(2.0))

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_a_number_that_is_none(self, bad):
        """It is told, and the other numbers still count."""
        assert shown(of_outputs([np.array([[bad, 2.0]])])) == (1, 0, sketch(2.0))
        assert shown(of_document({"y": [bad, 2.0]})) == (1, 0, sketch(2.0))

    def test_nothing_is_empty_only_where_all_is(self):
        """No box was found is empty; no box, but a count of none, is not."""
        none, zero = np.zeros((0, 4), np.float32), np.zeros(1, np.int64)
        assert shown(of_outputs([none, none]))[1] == 1
        assert shown(of_outputs([none, zero]))[1] == 0
        assert shown(of_outputs([np.array(["cat"], object)]))[:2] == (0, 0)
        assert [shown(of_document(one))[1] for one in (None, "", [], {}, {"y": None}, {"y": [""]})] == [1] * 6
        assert [shown(of_document(one))[1] for one in (0, "a", [0], {"y": ["a"]}, False)] == [0] * 5

    def test_maps_and_lists_of_a_graph(self):
        """A classifier's probabilities by label are looked at, too."""
        assert shown(of_outputs([[{"cat": 0.75, "dog": 0.25}]])) == (0, 0, sketch(0.75, 0.25))

    def test_a_large_answer_is_sampled(self):
        """A picture is looked at in a thousand places, which is quick, and as telling."""
        chance = np.random.default_rng(7)
        large = chance.normal(size=(64, 512, 512)).astype(np.float32)
        began = time.perf_counter()
        found = shown(of_outputs([large]))
        took = time.perf_counter() - began

        assert 500 <= sum(found[2]) <= MOST_NUMBERS
        assert distance(found[2], shown(of_outputs([large[0].ravel()[:1000]]))[2]) < 0.1
        assert took < 0.05

    def test_a_hostile_document_ends(self):
        """Deep, wide or huge numbers: what is looked at is bounded, and nothing is raised."""
        deep: list = []
        for _ in range(100_000):
            deep = [deep]
        assert shown(of_document(deep)) == (0, 1, [])
        assert sum(shown(of_document([1.0] * 10_000_000))[2]) <= MOST_NUMBERS
        assert shown(of_document([10**400, -(10**400)]))[:2] == (0, 0)

    @pytest.mark.parametrize(
        "answer",
        [
            Answer(body=b"{}", status=500),
            Answer(body=b"[1]", failed=True),
            Answer(body=b"[" + b"1," * (1 << 20) + b"1]"),
            Answer(body=(b"[1]", b"")),
        ],
        ids=["an error", "failed", "too large", "in parts"],
    )
    def test_what_of_a_script_is_not_looked_at(self, answer):
        """Errors are counted elsewhere; what is too large to be read costs nothing."""
        assert of_script(answer) is None

    def test_other_kinds_of_answers_are_empty_or_not(self):
        """A picture has no numbers, but it is there; so is a text that claims to be JSON."""
        picture = (("content-type", "image/png"),)
        assert shown(of_script(Answer(body=b"\x89PNG", headers=picture))) == (0, 0, [])
        assert shown(of_script(Answer(body=b"", headers=picture))) == (0, 1, [])
        assert shown(of_script(Answer(body=b"{'a': 1}"))) == (0, 0, [])

    def test_a_look_that_fails_harms_nobody(self, caplog):
        """Whatever an answer is made of, its client gets it."""
        one = Answers()
        one.look(lambda: of_outputs(None))

        assert (one.looked, one.due()) == (0, False)
        assert "could not be looked at" in caplog.text

    def test_slow_looks_are_further_apart(self):
        """Looking takes a fiftieth of the time, however long a single look takes."""
        now = [0.0]
        one = Answers(clock=lambda: now[0])

        def slow():
            now[0] += 0.2
            return Counted()

        one.look(slow)
        now[0] = 0.2 + 9.9
        assert not one.due()
        now[0] = 0.2 + 10.1

        assert one.due()
