"""What is changed, and what is left alone; that a mutant is tried against the tests nearest to it."""

import ast
from collections import Counter

import pytest

from tests.house.tree import ROOT
from tests.mutants import trial
from tests.mutants.__main__ import TESTS, equal, sample
from tests.mutants.equal import EQUAL
from tests.mutants.mutations import mutations
from tests.mutants.trial import Bench, Unchanged


@pytest.mark.parametrize(
    ("source", "changed"),
    [
        ("x = a < b <= c", ["x = (a <= b <= c)", "x = (a < b < c)"]),
        ("x = a is not b", ["x = (a is b)"]),
        ("x = a in b", ["x = (a not in b)"]),
        ("x = not a", ["x = (a)"]),
        ("x = a and b", ["x = (a or b)"]),
        ("x = a + b", ["x = (a - b)"]),
        ("x = -1", ["x = -2"]),
        ("x = True", ["x = False"]),
        ("if a: b = c", ["if (not a): b = c"]),
        ("while a or b: c = d", ["while (not (a or b)): c = d", "while (a and b): c = d"]),
        ("x = [a for a in b if a]", ["x = [a for a in b if (not a)]"]),
        ("def f():\n    return a", ["def f():\n    return None"]),
        ("raise a", ["pass"]),
        ("a.b = c", ["pass"]),
        ("a += b", ["pass"]),
        ('é = "é"; a(b)', ['é = "é"; pass']),
    ],
)
def test_changes(source, changed):
    """Each kind of change is made where it stands, and nothing else with it."""
    data = source.encode()

    assert [mutation.applied(data).decode() for mutation in mutations(data)] == changed


@pytest.mark.parametrize(
    "source",
    [
        '"""Said."""',
        "def f(a: 1 < 2) -> 3: ...",
        "_logger.info(a + b)",
        "self._log.warning(1)",
        'x = f"{1 + 2}"',
        'x = a + "b"',
        "x = zip(a, b, strict=True)",
        "class A(B, frozen=True): ...",
        "if TYPE_CHECKING: a = b",
        "def f():\n    return None",
    ],
)
def test_left_alone(source):
    """What no test need notice is not changed."""
    assert mutations(source.encode()) == []


@pytest.mark.long
def test_every_mutant_is_python():
    """The named files and tests exist, every mutant of theirs can be read, and a seed gives the same ones again."""
    cases = sample(1, "")

    assert cases == sample(1, "")
    assert {case.file for case in cases} | {"modules/trust/__init__.py"} == set(TESTS)
    assert all((ROOT / test).exists() for case in cases for test in case.tests)
    for case in cases:
        ast.parse(case.mutation.applied((ROOT / case.file).read_bytes()))


def test_what_is_argued_is_there():
    """Each argument is about one mutant of the code as it stands, or so many of one line, and gives a reason."""
    argued = Counter(one for case in sample(1, "") if (one := equal(case)))

    assert [one for one in EQUAL if argued[one] != one.times] == []
    assert all(len(one.why) > 20 for one in EQUAL)


def test_an_argument_is_about_code_and_not_about_lines():
    """Lines above move nothing; another line, or the same one in another function, is another matter."""
    first, moved, other = (
        mutations(source.encode())[0].where(source.encode())
        for source in ("def f():\n    a(1)", "x = b\n\n\ndef f():\n    a(1)", "class C:\n    def f(): a(1)")
    )

    assert first == moved == "f: a(1)"
    assert other == "C.f: def f(): a(1)"


@pytest.mark.long
def test_a_trial(tmp_path):
    """Of two mutants the tests notice the one that matters, and the copy is as it was afterwards."""
    bench = Bench(tmp_path / "tree", Unchanged())
    case = next(case for case in sample(1, "judge") if case.mutation.kind == "no return")

    assert bench.notices(case)
    harmless = case._replace(mutation=case.mutation._replace(begin=0, end=0, text="# nothing\n"))
    assert not bench.notices(harmless)
    assert (tmp_path / "tree" / case.file).read_bytes() == (ROOT / case.file).read_bytes()


@pytest.mark.long
def test_a_machine_that_has_become_slow_notices_nothing(tmp_path, monkeypatch):
    """What the unchanged tests do not do in time either is tried again; what hangs is noticed all the same."""
    monkeypatch.setattr(trial, "_MORE_S", 0.1)
    unchanged = Unchanged()
    bench = Bench(tmp_path / "tree", unchanged)
    case = next(case for case in sample(1, "sealing") if case.mutation.kind == "no return")
    assert unchanged.takes(case.tests, lambda: 0.2) == 0.2

    harmless = case._replace(mutation=case.mutation._replace(begin=0, end=0, text="# nothing\n"))
    assert not bench.notices(harmless)
    hangs = case._replace(mutation=case.mutation._replace(begin=0, end=0, text="while True: pass\n"))
    assert bench.notices(hangs)
