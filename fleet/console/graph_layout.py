"""Where the boxes of a graph go: in layers from top to bottom, each below all that it takes something from.

Sugiyama's way: layers, an order in each by the middle of the neighbours, then places as near to the neighbours' as the
boxes' widths allow. Boxes come in an order in which none takes anything from a later one; an edge that does is left
out.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final, NamedTuple

LAYER: Final = 74.0
HEIGHT: Final = 42.0
_GAP: Final = 26.0
_BEND: Final = 8.0
_MARGIN: Final = 12.0
_SWEEPS: Final = 8
# Bends of long edges: beyond so many altogether, long edges go straight.
_BENDS: Final = 4000

Point = tuple[float, float]


class Layout(NamedTuple):
    """The size of all, the middle of each box's upper edge, and the points that each edge goes through."""

    width: float
    height: float
    boxes: list[Point]
    edges: list[list[Point]]


def place(widths: Sequence[float], edges: Sequence[tuple[int, int]]) -> Layout:
    """Lay out boxes of these widths; edges name them by their places in the list."""
    forward = [(a, b) for a, b in edges if a < b]
    layers = _layers(len(widths), forward)
    chains, bends = _chains(layers, forward)
    sizes = [*widths, *[_BEND] * len(bends)]
    rows = _rows([*layers, *bends])
    steps = {(a, b) for chain in chains for a, b in pairwise(chain)}
    above: list[list[int]] = [[] for _ in sizes]
    below: list[list[int]] = [[] for _ in sizes]
    for a, b in steps:
        above[b].append(a)
        below[a].append(b)
    _order(rows, above, below)
    x = _places(rows, above, below, sizes)
    tops = [layer * LAYER + _MARGIN for layer in [*layers, *bends]]
    left = min((x[one] - sizes[one] / 2 for one in range(len(sizes))), default=0.0) - _MARGIN
    x = [one - left for one in x]
    routes = [_route(chain, x, tops) for chain in chains]
    width = max((x[one] + sizes[one] / 2 for one in range(len(sizes))), default=0.0) + _MARGIN
    height = (max(layers, default=0) * LAYER) + HEIGHT + 2 * _MARGIN
    return Layout(width, height, [(x[one], tops[one]) for one in range(len(widths))], routes)


def _layers(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """Each box one below the lowest that it takes from; what takes from none is just above the first that needs it."""
    takes: list[list[int]] = [[] for _ in range(count)]
    gives: list[list[int]] = [[] for _ in range(count)]
    for a, b in edges:
        takes[b].append(a)
        gives[a].append(b)
    found = [0] * count
    for one in range(count):
        found[one] = max((found[other] + 1 for other in takes[one]), default=0)
    for one in range(count):
        if not takes[one] and gives[one]:
            found[one] = min(found[other] for other in gives[one]) - 1
    return found


def _chains(layers: Sequence[int], edges: Sequence[tuple[int, int]]) -> tuple[list[list[int]], list[int]]:
    """Each edge as the boxes and bends that it goes through, and the layers of the bends, which are numbered on."""
    bends: list[int] = []
    straight = sum(layers[b] - layers[a] - 1 for a, b in edges) > _BENDS
    chains = []
    for a, b in edges:
        between = [] if straight else list(range(layers[a] + 1, layers[b]))
        first = len(layers) + len(bends)
        bends += between
        chains.append([a, *range(first, first + len(between)), b])
    return chains, bends


def _rows(layers: Sequence[int]) -> list[list[int]]:
    rows: list[list[int]] = [[] for _ in range(max(layers, default=0) + 1)]
    for one, layer in enumerate(layers):
        rows[layer].append(one)
    return rows


def _order(rows: list[list[int]], above: list[list[int]], below: list[list[int]]) -> None:
    """Sort each row by the middle of its neighbours in the row before it, down and up again."""
    at = [0.0] * sum(map(len, rows))
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        for row in rows if down else reversed(rows):
            for place_, one in enumerate(row):
                near = sorted(at[other] for other in (above if down else below)[one])
                at[one] = near[len(near) // 2] if near else float(place_)
            row.sort(key=lambda one: at[one])
            for place_, one in enumerate(row):
                at[one] = float(place_)


def _places(
    rows: list[list[int]], above: list[list[int]], below: list[list[int]], sizes: Sequence[float]
) -> list[float]:
    x = [0.0] * len(sizes)
    for row in rows:
        _settle(row, [0.0] * len(row), sizes, x)
    for sweep in range(_SWEEPS):
        for row in rows if sweep % 2 == 0 else reversed(rows):
            near = [(above if sweep % 2 == 0 else below)[one] for one in row]
            wished = [
                sum(x[other] for other in others) / len(others) if others else x[one]
                for one, others in zip(row, near, strict=True)
            ]
            _settle(row, wished, sizes, x)
    return x


def _settle(row: Sequence[int], wished: Sequence[float], sizes: Sequence[float], x: list[float]) -> None:
    """As near to what each wishes for as its neighbours' widths allow: pools of those that push each other."""
    offsets, at = list[float](), 0.0
    for before, one in zip([None, *row], row, strict=False):
        at += 0.0 if before is None else (sizes[before] + sizes[one]) / 2 + _GAP
        offsets.append(at)
    pools: list[tuple[float, int]] = []
    for wish, offset in zip(wished, offsets, strict=True):
        total, count = wish - offset, 1
        while pools and pools[-1][0] / pools[-1][1] > total / count:
            more, others = pools.pop()
            total, count = total + more, count + others
        pools.append((total, count))
    settled = [total / count for total, count in pools for _ in range(count)]
    for one, base, offset in zip(row, settled, offsets, strict=True):
        x[one] = base + offset


def _route(chain: Sequence[int], x: Sequence[float], tops: Sequence[float]) -> list[Point]:
    first, *bends, last = chain
    points = [(x[first], tops[first] + HEIGHT)]
    for one in bends:
        points += [(x[one], tops[one]), (x[one], tops[one] + HEIGHT)]
    return [*points, (x[last], tops[last])]
