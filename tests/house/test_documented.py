"""Whatever a person can name stands in the docs."""

import re

import pytest

from tests.house import named
from tests.house.tree import ROOT

pytestmark = pytest.mark.skipif(not list(ROOT.glob("docs/**/*.md")), reason="docs/ is not written yet")


@pytest.mark.parametrize("kind", [named.error_codes, named.topics, named.settings, named.commands, named.routes])
def test_is_in_the_docs(kind):
    """Every error code, topic, setting, command and route appears in README or docs/."""
    text = named.docs()

    missing = sorted(name for name in kind() if not re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text))

    assert missing == []
