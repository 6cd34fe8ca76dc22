"""``make mutants``: do the tests notice when the code that the promises rest on is a little wrong?

A random sample of small changes (``tests/mutants/mutations.py``), one at a time, each against the tests nearest to its
file. What no test notices is printed: a gap in the tests, or a change that makes no difference. The same seed gives the
same mutants in the same order; how many are tried depends on the time. Those that make no difference are not tried, and
counted apart; ``tests/mutants/equal.py`` says why. The last line of the output is one JSON object.
"""

import argparse
import json
import os
import random
import secrets
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.house.tree import ROOT, sources
from tests.mutants.argument import Equal
from tests.mutants.equal import EQUAL
from tests.mutants.mutations import mutations
from tests.mutants.trial import Bench, Case, Unchanged

_GRAPHS: Final = "modules/scoring/graphs"
_BATCHES: Final = (
    f"tests/{_GRAPHS}/test_batch_axis.py",
    f"tests/{_GRAPHS}/test_batching.py",
    f"tests/{_GRAPHS}/test_batch_trial.py",
)
_ENGINES: Final = "tests/agent/engines/test_docker"
_PASSES: Final = tuple(
    f"tests/agent/test_{name}.py"
    for name in (
        "execute",
        "maintenance",
        "proof",
        "faults",
        "supervision",
        "stopped",
        "clocks_and_losses",
        "restart_asked",
    )
)
_GIVEN: Final = ("tests/agent/test_images_kept.py", "tests/agent/test_secrets.py")
_COMMANDS: Final = "tests/agent/commands/test"
_DESK: Final = (f"{_COMMANDS}_desk.py", f"{_COMMANDS}_refused.py", f"{_COMMANDS}_once.py")
_PEOPLE: Final = "tests/fleet/people/test"
_TRUST: Final = tuple(
    f"tests/modules/trust/test_{name}.py"
    for name in (
        *("metadata", "just_within", "client", "device", "publication", "owners_update", "repository", "updater"),
        *("verified", "bins", "bins_attacked"),
    )
)
# What is changed, and the tests that are to notice it, quick ones first. Tests that measure time are left out.
TESTS: Final = {
    **dict.fromkeys(sources("modules/trust"), _TRUST),
    "modules/trust/drafts.py": ("tests/modules/trust/test_drafts.py",),
    "modules/trust/succession.py": (*_TRUST, "tests/fleet/test_succession.py"),
    "agent/plan.py": ("tests/agent/test_plan.py", "tests/agent/test_maintenance.py"),
    "agent/execute.py": (*_PASSES, *_GIVEN),
    "agent/keep.py": (*_PASSES, *_GIVEN),
    "agent/health.py": ("tests/agent/test_module_client.py", "tests/agent/test_asking.py", *_PASSES),
    "agent/supply.py": ("tests/agent/test_supply.py", *_PASSES),
    "agent/installation.py": ("tests/agent/test_installation.py", f"{_ENGINES}_owners.py"),
    "agent/engines/docker.py": (f"{_ENGINES}_answers.py", f"{_ENGINES}_api.py"),
    "agent/engines/docker_spec.py": (f"{_ENGINES}_spec.py",),
    "agent/engines/docker_images.py": (f"{_ENGINES}_images_answers.py", f"{_ENGINES}_images.py"),
    "agent/commands/answers.py": (*_DESK, f"{_COMMANDS}_arms.py"),
    "agent/commands/desk.py": _DESK,
    "agent/commands/kept.py": (f"{_COMMANDS}_once.py", f"{_COMMANDS}_refused.py", f"{_COMMANDS}_desk.py"),
    "agent/commands/redacted.py": (f"{_COMMANDS}_diagnose.py",),
    "agent/commands/rules.py": (f"{_COMMANDS}_refused.py",),
    "agent/commands/wipe.py": (f"{_COMMANDS}_wipe.py",),
    "agent/inbox.py": ("tests/agent/test_inbox.py", "tests/agent/test_refused_again.py"),
    "agent/renewal.py": ("tests/agent/test_renewal.py",),
    "agent/renewal_due.py": ("tests/agent/test_renewal.py",),
    "agent/secret_files.py": ("tests/agent/test_secrets.py",),
    "agent/verify.py": tuple(f"tests/agent/test_{name}.py" for name in ("verify_bounds", "verify", "director_keys")),
    "agent/window.py": ("tests/agent/test_window.py",),
    "fleet/audit/chain.py": ("tests/fleet/audit/test_chain.py",),
    "fleet/audit/heads.py": ("tests/fleet/audit/test_audit_log.py",),
    "fleet/audit/log.py": ("tests/fleet/audit/test_audit_log.py",),
    "fleet/audit/middleware.py": ("tests/fleet/audit/test_audit_log.py",),
    "fleet/ingest.py": (
        *(f"tests/fleet/test_{name}.py" for name in ("ingest", "telemetry", "renewal")),
        "tests/fleet/commands/test_due_commands.py",
    ),
    "fleet/pack.py": ("tests/fleet/test_pack.py",),
    "fleet/people/back_off.py": (f"{_PEOPLE}_back_off.py",),
    "fleet/people/identify.py": (f"{_PEOPLE}_own_tokens.py", f"{_PEOPLE}_sessions.py"),
    "fleet/people/oidc.py": (f"{_PEOPLE}_oidc.py",),
    "fleet/people/operators.py": (f"{_PEOPLE}_operators.py", f"{_PEOPLE}_oidc.py", f"{_PEOPLE}_sessions.py"),
    "fleet/people/own_tokens.py": (f"{_PEOPLE}_own_tokens.py",),
    "fleet/people/passwords.py": (f"{_PEOPLE}_passwords.py",),
    "fleet/people/principal.py": (f"{_PEOPLE}_areas.py", f"{_PEOPLE}_own_tokens.py"),
    "fleet/people/reach.py": (f"{_PEOPLE}_reach.py", f"{_PEOPLE}_scopes.py"),
    "fleet/people/roles.py": (f"{_PEOPLE}_areas.py", f"{_PEOPLE}_operators.py"),
    "fleet/people/scope.py": tuple(f"{_PEOPLE}_{name}.py" for name in ("areas", "scopes_of_joining", "scopes")),
    "fleet/people/sessions.py": (f"{_PEOPLE}_sessions.py",),
    "fleet/rights.py": ("tests/fleet/test_rights.py",),
    "fleet/rollouts/engine.py": (
        *(f"tests/fleet/rollouts/test_{name}.py" for name in ("engine", "taking_back", "pace", "auto")),
        "tests/fleet/fallbacks/test_needs.py",
    ),
    "fleet/rollouts/judge.py": ("tests/fleet/rollouts/test_judge.py",),
    f"{_GRAPHS}/batch_axis.py": _BATCHES,
    f"{_GRAPHS}/batching.py": _BATCHES,
    f"{_GRAPHS}/batch_trial.py": _BATCHES,
    "modules/sealing.py": ("tests/modules/test_sealing.py",),
}
TARGETS: Final = {"noticed_percent": ">= 85"}
SEEDS: Final = 10_000


class Trials:
    """The sample, handed out to workers until the time is over, and what came of it."""

    def __init__(self, cases: list[Case], ends: float) -> None:
        self._cases = iter(cases)
        self._ends = ends
        self._lock = threading.Lock()
        self._unchanged = Unchanged()
        self.tried: Counter[str] = Counter()
        self.noticed: Counter[str] = Counter()
        self.survivors: list[Case] = []
        #: of tests that fail without any mutant, what they printed: they can notice none
        self.broken: dict[tuple[str, ...], str] = {}
        self.errors: list[str] = []

    def work(self, folder: Path) -> None:
        """Try mutants in a copy of the tree there, until time or mutants are at an end."""
        try:
            bench = Bench(folder, self._unchanged)
            for case in iter(self._next, None):
                try:
                    noticed = bench.notices(case)
                except RuntimeError as error:
                    self.broken.setdefault(case.tests, str(error))
                    continue
                with self._lock:
                    self.tried[case.file] += 1
                    self.noticed[case.file] += noticed
                    if not noticed:
                        self.survivors.append(case)
                        sys.stderr.write(f"survivor after {self.tried.total()}: {told(case)}\n")
        except OSError as error:
            self.errors.append(str(error))

    def _next(self) -> Case | None:
        with self._lock:
            if time.monotonic() >= self._ends or self.errors:
                return None
            return next((case for case in self._cases if case.tests not in self.broken), None)


def sample(seed: int, only: str) -> list[Case]:
    """Every mutant of the files whose path holds ``only``, in the order of this seed."""
    cases = [
        Case(file, tests, mutation)
        for file, tests in sorted(TESTS.items())
        if only in file
        for mutation in mutations((ROOT / file).read_bytes())
    ]
    random.Random(seed).shuffle(cases)
    return cases


def equal(case: Case) -> Equal | None:
    """Why this mutant makes no difference; None where nobody has said so."""
    source = (ROOT / case.file).read_bytes()
    where, change = case.mutation.where(source), case.mutation.told(source)
    return next((one for one in EQUAL if (one.file, one.where, one.change) == (case.file, where, change)), None)


def told(case: Case) -> str:
    return (
        f"{case.file}:{case.mutation.line}: {case.mutation.kind}: {case.mutation.told((ROOT / case.file).read_bytes())}"
    )


def rows(trials: Trials, cases: list[Case]) -> Iterator[str]:
    """A line per file that was tried, then one per survivor."""
    there = Counter(case.file for case in cases)
    yield f"{'file':40} {'mutants':>8} {'tried':>6} {'noticed':>8}"
    for file, tried in sorted(trials.tried.items()):
        yield f"{file:40} {there[file]:8} {tried:6} {trials.noticed[file]:8}"
    yield f"\nsurvivors: {len(trials.survivors)}"
    for case in sorted(trials.survivors, key=lambda case: (case.file, case.mutation.line)):
        yield told(case)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description="Try mutants of the code.")
    parser.add_argument("--minutes", type=float, default=10, help="how long mutants are tried")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(SEEDS), help="of an earlier run, to repeat it")
    parser.add_argument("--only", default="", help="only files whose path holds this text")
    # Many tests wait for other processes.
    parser.add_argument("--workers", type=int, default=2 * len(os.sched_getaffinity(0)), help="mutants at a time")
    parser.add_argument("--json", action="store_true", help="print only the last line")
    line = parser.parse_args()
    everyone = sample(line.seed, line.only)
    cases = [case for case in everyone if equal(case) is None]
    argued = len(everyone) - len(cases)
    sys.stderr.write(f"seed {line.seed}: {len(cases)} mutants, and {argued} that are argued equal\n")
    began = time.monotonic()
    trials = Trials(cases, began + line.minutes * 60)
    with tempfile.TemporaryDirectory(prefix="edgefleet-mutants-") as folder:
        workers = [
            threading.Thread(target=trials.work, args=[Path(folder, str(number), "tree")])
            for number in range(line.workers)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    failures = [*trials.errors, *trials.broken.values()]
    sys.stderr.writelines(f"{one}\n" for one in failures)
    if trials.errors or not trials.tried:
        sys.stderr.write("no sample was tried\n")
        return 1
    if not line.json:
        print("\n".join(rows(trials, cases)))
    tried, noticed = trials.tried.total(), trials.noticed.total()
    figures = {
        "noticed_percent": round(100 * noticed / tried, 1),
        "noticed": noticed,
        "tried": tried,
        "mutants": len(cases),
        "argued_equal": argued,
        "seed": line.seed,
        "seconds": round(time.monotonic() - began),
    }
    print(json.dumps({"benchmark": "mutants", "figures": figures, "targets": TARGETS}))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
