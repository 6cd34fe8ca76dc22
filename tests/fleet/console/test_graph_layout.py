"""Drawings of graphs: boxes beside each other, edges downwards, whatever the graph."""

import time
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.console.graph_layout import HEIGHT, place
from tests.parts.pace import stretched

GRAPHS = st.integers(1, 25).flatmap(
    lambda count: st.tuples(
        st.lists(st.floats(40, 250), min_size=count, max_size=count),
        st.lists(st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)), max_size=60),
    )
)


@given(GRAPHS)
@settings(max_examples=150, deadline=None)
def test_no_box_lies_on_another_and_edges_lead_down(graph):
    """Also where a file says that something takes from what comes after it: that edge is left out."""
    widths, edges = graph
    found = place(widths, edges)
    rows = {}
    for width, (x, y) in zip(widths, found.boxes, strict=True):
        rows.setdefault(y, []).append((x - width / 2, x + width / 2))
        assert x - width / 2 >= -1e-6
        assert x + width / 2 <= found.width + 1e-6
        assert y + HEIGHT <= found.height
    for row in rows.values():
        assert all(one[1] < other[0] for one, other in pairwise(sorted(row)))
    forward = [(a, b) for a, b in edges if a < b]
    assert len(found.edges) == len(forward)
    for (a, b), route in zip(forward, found.edges, strict=True):
        assert route[0] == (found.boxes[a][0], found.boxes[a][1] + HEIGHT)
        assert route[-1] == found.boxes[b]
        assert all(one[1] <= other[1] for one, other in pairwise(route))


def test_the_largest_that_is_drawn_is_placed_soon():
    """With each node taking from all before it, too."""
    every = [(a, b) for b in range(300) for a in range(max(0, b - 10), b)]
    begin = time.monotonic()
    place([100.0] * 300, every)
    assert time.monotonic() - begin < stretched(5)


def test_a_chain_is_a_straight_line():
    found = place([100.0, 60.0, 200.0], [(0, 1), (1, 2)])
    assert len({round(x, 6) for x, _ in found.boxes}) == 1
