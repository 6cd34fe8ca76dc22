"""Our scoring server and azureml-inference-server-http 1.5.1 with the same entry scripts, asked the same.

``python -m tests.benchmarks.azure_differences [SCRIPT] [REQUEST]`` (both may have ``*``) makes the environments below
.cache/ the first time. Each difference must be explained by a row of the table in docs/scoring.md; ``documented.toml``
says which row explains which. Equal are answers with the same status, headers and JSON value, whatever the white
space, the order of headers, ids and times, and the words of an error's message. OpenAPI documents are compared thing by
thing, without its descriptions.
"""

import argparse
import fnmatch
import json
import re
import sys
import tempfile
import tomllib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.benchmarks.azure_differences.pair import Script, compare
from tests.benchmarks.serving.servers import ROOT, environment

HERE = Path(__file__).parent
TOGETHER = 2
SHOWN = 300


def rows():
    """The left cells of the table in the docs."""
    return re.findall(r"^\| (.+?) \| .+ \|$", (ROOT / "docs/scoring.md").read_text(), re.MULTILINE)


def explanations():
    """(row, glob of cases, globs of fields), in the order of the file.

    Raises:
        SystemExit: a row that the docs do not have.
    """
    known, found = rows(), []
    for row, places in tomllib.loads((HERE / "documented.toml").read_text()).items():
        if row not in known:
            raise SystemExit(f"documented.toml explains by a row that docs/scoring.md does not have: {row}")
        found += [(row, *place.split(": ", 1)) for place in places]
    return found


def explained(case, field, values, rules):
    """The row for this field, or for this field with these values."""
    seen = (field, f"{field} {values[0]} > {values[1]}")
    for row, cases, fields in rules:
        patterns = fields.split(", ") if fnmatch.fnmatch(case, cases) else ()
        if any(fnmatch.fnmatchcase(one, pattern) for one in seen for pattern in patterns):
            return row
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("script", nargs="?", default="*", help="only these scripts")
    parser.add_argument("request", nargs="?", default="*", help="only these requests, such as ids/two")
    given = parser.parse_args()
    for name in ("azureml-scripts", "scripts"):
        environment(name)
    rules, counts, unexplained = explanations(), Counter(), []
    pairs = same = 0
    sections = (HERE / "scripts.md").read_text().split("\n## ")[1:]
    scripts = [one for one in map(Script, sections) if fnmatch.fnmatch(one.name, given.script)]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(TOGETHER) as pool:

        def run(script):
            (home := Path(folder) / script.name).mkdir()
            return list(compare(script, home, given.request))

        for found in pool.map(run, scripts):
            for case, fields in found:
                pairs, same = pairs + 1, same + (not fields)
                reasons = {field: explained(case, field, values, rules) for field, values in fields.items()}
                counts.update(set(reasons.values()) - {None})
                unexplained += [(case, field, *fields[field]) for field, row in reasons.items() if row is None]
    print(f"{'pairs':>6}  explained by the row")
    for row, count in counts.most_common():
        print(f"{count:6}  {row}")
    if (given.script, given.request) == ("*", "*"):
        for row in dict.fromkeys(row for row, *_ in rules if row not in counts):
            print(f"{0:6}  {row}")
    for case, field, theirs, ours in unexplained:
        print(f"\nunexplained: {case}: {field}\n  theirs {str(theirs)[:SHOWN]}\n  ours   {str(ours)[:SHOWN]}")
    cases = len({case for case, *_ in unexplained})
    figures = {"pairs": pairs, "same": same, "documented": pairs - same - cases, "unexplained": cases}
    print(json.dumps({"benchmark": "azure_differences", "figures": figures, "targets": {"unexplained": "<= 0"}}))
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
