"""Whether requests may share a run is tried out; where one's answer would depend on another, they may not."""

import asyncio
import itertools
import math
import threading
from collections import Counter

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from modules.scoring.graphs.batch_trial import independent, places_agree
from modules.scoring.graphs.batching import Batches, choose
from modules.scoring.graphs.lanes import Lanes
from modules.scoring.graphs.shared_run import fits
from modules.scoring.metrics import Figures
from modules.scoring.runtime import BadInput, Busy, RunFailed

FLOATS = (TensorProto.FLOAT, ["N", 4])
NUMBERS = (TensorProto.INT64, ["N", 3])


def constant(name, value):
    return numpy_helper.from_array(np.array(value), name)


def lone(graph, inputs, *nodes, constants=()):
    """A graph of one output y; an example of what it takes; a run of it."""
    path = graph(nodes, inputs, {"y": (TensorProto.FLOAT, ["N", None])}, initializers=constants)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    example = {
        name: np.zeros([1, shape[1]], np.float32 if kind == TensorProto.FLOAT else np.int64)
        for name, (kind, shape) in inputs.items()
    }
    return lambda feeds: session.run(None, feeds), example


def free_batches():
    """A clock by which a batch of any size takes no time."""
    return itertools.repeat(0.0).__next__


def test_rows_that_do_not_meet_share_a_run(graph):
    """A graph that treats each row by itself runs many at once where that is quicker."""
    run, example = lone(graph, {"x": FLOATS}, helper.make_node("Relu", ["x"], ["y"]))
    assert choose(run, example, 0.001, free_batches()).size > 1


def taking(*seconds):
    """A clock by which the trials, of 4, of 16 and of 64 requests, take these seconds per request, and once longer."""
    sizes = zip((4, 16, 64), seconds, strict=False)
    return itertools.chain.from_iterable((1.0, 2 + size * each, 1.0, 1 + size * each) for size, each in sizes).__next__


@pytest.mark.parametrize(
    ("alone", "together", "size"),
    [
        (0.001, (0.0009,), 1),  # saves a tenth
        (0.001, (0.0008, 0.0008), 4),
        (0.001, (0.0008, 0.0007), 4),  # from 4 to 16 saves an eighth
        (0.001, (0.0008, 0.0006, 0.0006), 16),
        (0.001, (0.0008, 0.0006, 0.0005), 64),
        (0.0001, (0.00005,), 1),  # half, which queueing and splitting would cost
        (0.0001, (0.00003, 0.00003), 4),
        (0.125, (0.0, 0.0, 0.0), 64),
        (0.126, (), 1),  # four of these would hold up others for more than half a second
        (0.1, (0.04,), 4),  # and sixteen of those
    ],
)
def test_a_batch_is_as_large_as_pays(graph, alone, together, size):
    """A larger batch is chosen while it saves enough of each request's time and holds up nobody for too long."""
    run, example = lone(graph, {"x": FLOATS}, helper.make_node("Relu", ["x"], ["y"]))
    chosen = choose(run, example, alone, taking(*together))
    assert chosen.size == size
    assert (chosen == Batches()) is (size == 1), "where nothing is shared nobody waits for others"


@pytest.mark.parametrize(("alone", "wait"), [(0.001, 0.00025), (0.1, 0.002)])
def test_what_was_not_tried_is_not_run_together(graph, alone, wait):
    """Requests wait a quarter of a run for others, at most 2 ms; together they are no larger than what was tried."""
    run, example = lone(graph, {"x": FLOATS}, helper.make_node("Relu", ["x"], ["y"]))
    assert choose(run, example, alone, free_batches()) == Batches(64, wait, 64 * 4 * 4 * 6, 64)
    assert Batches() == Batches(1, 0.0, math.inf)


def test_numbers_that_do_not_meet_share_a_run(graph):
    """So does one that looks up numbers, as models of language do."""
    table = constant("table", np.arange(8, dtype=np.float32))
    run, example = lone(graph, {"x": NUMBERS}, helper.make_node("Gather", ["table", "x"], ["y"]), constants=[table])
    assert choose(run, example, 0.001, free_batches()).size > 1


@pytest.mark.parametrize("kind", ["largest", "quantized floats", "quantized numbers"])
def test_a_graph_that_compares_requests(graph, kind):
    """When a graph measures one request by another, or quantizes them by their common range, each runs alone."""
    quantized = [
        helper.make_node("DynamicQuantizeLinear", ["f"], ["q", "scale", "zero"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    ]
    if kind == "largest":
        inputs, constants = {"x": FLOATS}, ()
        nodes = [helper.make_node("ReduceMax", ["x"], ["m"], keepdims=0), helper.make_node("Div", ["x", "m"], ["y"])]
    elif kind == "quantized floats":
        inputs, constants = {"x": FLOATS}, ()
        nodes = [helper.make_node("Identity", ["x"], ["f"]), *quantized]
    else:
        inputs, constants = {"x": NUMBERS}, [constant("table", np.float32([0.3, 0.7])), constant("axis", [1])]
        nodes = [
            helper.make_node("Gather", ["table", "x"], ["found"]),
            helper.make_node("ReduceSum", ["found", "axis"], ["f"]),
            *quantized,
        ]
    run, example = lone(graph, inputs, *nodes, constants=constants)
    assert choose(run, example, 0.001, free_batches()) == Batches()


def texts(graph, *nodes):
    """A graph from a row of text to y; an example of it; a run."""
    inputs = {"x": (TensorProto.STRING, ["N"])}
    path = graph(nodes, inputs, {"y": (TensorProto.FLOAT, ["N"])}, domains=(("", 20), ("ai.onnx.ml", 4)))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda feeds: session.run(None, feeds), {"x": np.array([""], object)}


SPLIT = helper.make_node("StringSplit", ["x"], ["words", "count"])


def test_texts_that_do_not_meet_share_a_run(graph):
    """Texts of other lengths are tried, too; as long ones as may come were not, so their bytes are not bounded."""
    run, example = texts(graph, SPLIT, helper.make_node("Cast", ["count"], ["y"], to=TensorProto.FLOAT))
    chosen = choose(run, example, 0.001, free_batches())
    assert (chosen.size, chosen.body_bytes) == (64, math.inf)


def test_texts_that_are_brought_to_the_longest_do_not(graph):
    """A graph whose answer to a text depends on how long the others are runs each alone."""
    label = helper.make_node(
        "LabelEncoder", ["words"], ["f"], domain="ai.onnx.ml", keys_strings=["text"], values_floats=[2.0],
        default_float=1.0,
    )  # fmt: skip
    run, example = texts(graph, SPLIT, label, helper.make_node("ReduceMean", ["f", "axis"], ["y"], keepdims=0),
                         helper.make_node("Constant", [], ["axis"], value_ints=[1]))  # fmt: skip
    assert not independent(run, example)


class Inputs:
    """A graph of any inputs: it answers with the sum of each row, and remembers what it was asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, feeds):
        self.asked.append(feeds)
        return [sum(value.reshape(len(value), -1).astype(np.float64).sum(1) for value in feeds.values())]


def test_what_is_tried_tells_requests_apart():
    """Numbers of either sign and of far ranges, integers up to 7, both truths, gaps, and other numbers of rows."""
    run = Inputs()
    example = {"f": np.zeros([1, 64], np.float16), "i": np.zeros([1, 64], np.int64), "b": np.zeros([1, 64], bool)}
    assert independent(run, example)
    usual, signed, far, gaps = ([run.asked[start + place] for place in range(1, 5)] for start in range(0, 20, 5))

    assert [len(feeds["f"]) for feeds in run.asked] == [5, 1, 2, 1, 1] * 4
    assert {value.dtype.kind for feeds in usual for value in feeds.values()} == {"f", "i", "b"}
    assert [sorted(np.unique(feeds["b"])) for feeds in usual] == [[False, True], [False], [True], [False, True]]
    assert set(np.unique(usual[0]["i"])) == set(range(8))
    assert max(int(feeds["i"].max()) for feeds in far) > 255
    assert [bool(feeds["f"].any()) for feeds in far] == [True, True, False, True]
    largest = [float(np.abs(feeds["f"]).max()) for feeds in usual]
    assert max(largest) > 16 * min(largest)
    assert not any((feeds["f"] < 0).any() for feeds in usual)
    assert all((feeds["f"] < 0).any() for feeds in signed)
    assert set(np.unique(usual[3]["i"])) == set(range(8))
    assert [bool(np.isfinite(feeds["f"]).all()) for feeds in gaps] == [True, False, False, False]
    assert all(np.isfinite(feeds["f"]).any() for feeds in gaps)


def test_integers_that_a_graph_does_not_take_are_made_smaller():
    """A graph with two words alone is tried with those two."""
    run = Inputs()

    def choosy(feeds):
        if feeds["i"].max() > 1:
            raise IndexError
        return run(feeds)

    assert independent(choosy, {"i": np.zeros([1, 64], np.int64)})
    assert {int(number) for feeds in run.asked for number in np.unique(feeds["i"])} == {0, 1}
    assert len(run.asked) == 3 * 5, "together and each alone, in each of three ways"


@pytest.mark.parametrize("kind", ["labels", "places", "as wide as long"])
def test_every_output_is_compared(kind):
    """Whole numbers beside floats, too, and how wide an answer is."""

    def run(feeds):
        total = feeds["f"].sum(1)
        more = {
            "labels": (total * 4).astype(np.int64),
            "places": np.arange(len(total)),
            "as wide as long": np.zeros([len(total), len(total)], np.float32),
        }
        return [total, more[kind]]

    assert independent(run, {"f": np.zeros([1, 2], np.float32)}) is (kind == "labels")


def test_sizes_are_measured_by_running_them():
    """Sizes of 16 and 64 requests are run with as many rows as so many requests of the example have: once for their
    answers, and twice for the time."""
    run = Inputs()
    assert choose(run, {"f": np.zeros([2, 4], np.float32)}, 0.001, free_batches()).size == 64
    assert Counter(size for feeds in run.asked if (size := len(feeds["f"])) > 10) == {32: 3, 128: 3}


def test_a_graph_that_takes_only_noughts_and_ones_is_measured_with_those():
    """Its trial ran with them, and its sizes are tried with no larger ones."""
    inputs = Inputs()

    def run(feeds):
        if feeds["i"].max() > 1:
            raise ValueError("out of its table")
        return inputs(feeds)

    example = {"f": np.zeros([1, 4], np.float32), "i": np.zeros([1, 4], np.int64)}
    assert choose(run, example, 0.001, free_batches()).size == 64


@pytest.mark.parametrize(("place", "agrees"), [(0, False), (1, True), (2, True), (3, False), (4, True), (5, False)])
def test_of_many_requests_three_are_compared(place, agrees):
    """The first, the one in the middle and the last; and no answer may be missing."""
    run = Inputs()
    feeds = [{"f": np.full([1, 2], number, np.float32)} for number in range(1, 7)]
    (values,) = run({"f": np.concatenate([one["f"] for one in feeds])})
    assert places_agree(run, feeds, [values])
    assert not places_agree(run, feeds, [values[:-1]])
    values[place] += 1
    assert places_agree(run, feeds, [values]) is agrees


@pytest.mark.parametrize("values", [[np.float32(1)], [np.zeros(3)], [["no array"] * 2], [np.zeros(2), np.zeros(1)]])
def test_outputs_that_cannot_be_divided(values):
    """A number alone, another length, or what is no array, among other outputs as well."""
    assert fits([np.zeros([2, 3])], 2)
    assert not fits([np.asarray(values[0]) if isinstance(values[0], np.generic) else values[0], *values[1:]], 2)


class Rows:
    """A session that runs nothing until it is let go; answers each row with its first number, or as it was told to, and
    remembers the first numbers of each run."""

    def __init__(self, answer=lambda rows: [rows]):
        self.answer = answer
        self.free = threading.Event()
        self.runs = []

    def options(self, *, trim=False):
        return None

    def stop(self, options):
        self.free.set()

    def run(self, feeds, options):
        assert self.free.wait(10)
        self.runs.append(feeds["x"][:, 0].tolist())
        return self.answer(feeds["x"])


@pytest.mark.parametrize(("size", "runs"), [(100, [1, 4, 4]), (400, [1, 2, 2, 2, 2]), (5000, [1] * 9)])
async def test_large_requests_share_less(size, runs):
    """Requests larger than those that were tried share a run with fewer others, or none, and none is left waiting."""
    session = Rows()
    lanes = Lanes(session, threads=1, timeout_s=30, queue=100, figures=Figures())
    lanes.run_batches(Batches(4, 0.001, body_bytes=1000))
    row = {"x": np.zeros([1, 4], np.float32)}
    asked = [lanes.submit(size, lambda: row, lambda values, _: len(values[0])) for _ in range(9)]
    session.free.set()
    assert await asyncio.gather(*asked) == [1] * 9
    assert [len(run) for run in session.runs] == runs
    await lanes.close()


async def test_more_rows_than_were_tried_are_not_joined():
    """Of requests of several rows no more share a run than rows were tried; who has more of them runs alone."""
    session = Rows()
    lanes = Lanes(session, threads=1, timeout_s=30, queue=100, figures=Figures())
    lanes.run_batches(Batches(8, 0.001, rows=8))

    def several(rows):
        feeds = {"x": np.full([rows, 4], rows, np.float32)}
        return lanes.submit(100, lambda: feeds, lambda values, _: len(values[0]))

    requests = [several(rows) for rows in (1, 3, 3, 3, 9, 8)]
    assert await answers(lanes, session, requests) == [1, 3, 3, 3, 9, 8]
    assert [len(run) for run in session.runs] == [1, 6, 3, 9, 8]


def test_what_was_tried_is_the_most_that_runs_together(graph):
    """The bound on the bodies follows from the example that was tried, with room for numbers written as JSON."""
    run, example = lone(graph, {"x": FLOATS}, helper.make_node("Relu", ["x"], ["y"]))
    chosen = choose(run, example, 0.001, free_batches())
    assert chosen.body_bytes == chosen.size * 4 * 4 * 6


@pytest.mark.parametrize("kind", ["constant", "not a number", "shorter", "states"])
def test_a_trial_that_tells_nothing(graph, kind):
    """Answers that are the same whatever is asked, or of another length, or that remember, are no proof."""
    many = constant("many", np.float32([[0.0] * 4]))
    nodes = {
        "constant": [helper.make_node("Mul", ["x", "many"], ["y"])],
        "not a number": [helper.make_node("Div", ["x", "many"], ["f"]), helper.make_node("Mul", ["f", "many"], ["y"])],
        "shorter": [helper.make_node("ReduceMax", ["x"], ["y"], axes=[0])],
        "states": [helper.make_node("CumSum", ["x", "axis"], ["y"])],
    }
    run, example = lone(graph, {"x": FLOATS}, *nodes[kind], constants=[many, constant("axis", 0)])
    assert not independent(run, example)


def asked(lanes, number, *, columns=4):
    """A request of one row of this number, whose answer is that of its own row."""
    row = {"x": np.full([1, columns], number, np.float32)}
    return lanes.submit(100, lambda: row, lambda values, _: values[0].tolist())


async def answers(lanes, session, requests):
    session.free.set()
    found = await asyncio.gather(*requests, return_exceptions=True)
    await lanes.close()
    return found


def shared(session, *, queue=100):
    lanes = Lanes(session, threads=1, timeout_s=30, queue=queue, figures=Figures())
    lanes.run_batches(Batches(8, 0.001))
    return lanes


@pytest.mark.parametrize("error", [RunFailed("it stumbles"), BadInput("out of range"), MemoryError()])
async def test_an_error_is_its_own_requests(error):
    """A request that makes a shared run fail, in whatever way, is the only one that fails."""

    def answer(rows):
        if -1 in rows:
            raise error
        return [rows[:, 0]]

    session = Rows(answer)
    lanes = shared(session)
    requests = [asked(lanes, number) for number in (0, 1, 2, -1, 4)]
    assert await answers(lanes, session, requests) == [[0], [1], [2], error, [4]]
    assert session.runs == [[0], [1, 2, -1, 4], [1], [2], [-1], [4]]
    assert lanes.batches.size == 8


async def test_another_number_of_rows():
    """Where a shared run gives more or fewer rows than it took, each is run alone, and nothing is shared any more."""
    session = Rows(lambda rows: [rows[rows[:, 0] != 2][:, 0]])
    lanes = shared(session)
    requests = [asked(lanes, number) for number in (0, 1, 2, 3)]
    session.free.set()
    assert await asyncio.gather(*requests) == [[0], [1], [], [3]]
    assert session.runs == [[0], [1, 2, 3], [1], [2], [3]]
    assert await asyncio.gather(*[asked(lanes, number) for number in (5, 6, 7)]) == [[5], [6], [7]]
    assert session.runs[5:] == [[5], [6], [7]]
    assert "number of rows" in lanes.why_alone
    await lanes.close()


async def test_other_shapes_are_not_joined():
    """Requests share a run with those of their own shape alone."""
    session = Rows(lambda rows: [rows.sum(1)])
    lanes = shared(session)
    requests = [asked(lanes, 1, columns=columns) for columns in (1, 2, 3, 2, 3)]
    assert await answers(lanes, session, requests) == [[1], [2], [3], [2], [3]]
    assert session.runs == [[1], [1, 1], [1, 1]]


async def test_clients_that_have_left():
    """A request whose client has left before it was run is not run, alone or with others."""
    session = Rows(lambda rows: [rows[:, 0]])
    lanes = shared(session)
    requests = [asked(lanes, number) for number in range(6)]
    for gone in (2, 3):
        requests[gone].cancel()
    left = [request for request in requests if not request.cancelled()]
    assert await answers(lanes, session, left) == [[0], [1], [4], [5]]
    assert session.runs == [[0], [1, 4, 5]]


async def test_those_who_left_take_no_place():
    """A full queue of clients that have left lets the next one in."""
    session = Rows(lambda rows: [rows[:, 0]])
    lanes = shared(session, queue=2)
    running, *waiting = [asked(lanes, number) for number in range(3)]
    with pytest.raises(Busy):
        asked(lanes, 3)
    waiting[0].cancel()
    assert await answers(lanes, session, [running, waiting[1], asked(lanes, 4)]) == [[0], [2], [4]]
