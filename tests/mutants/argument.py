"""What is said for a mutant that makes no difference."""

from typing import NamedTuple


class Equal(NamedTuple):
    """A change that is as good as the code: the file, function and line, the change as a run prints it, and why.

    ``times``: in how many places of the line, which all come to the same.
    """

    file: str
    where: str
    change: str
    why: str
    times: int = 1
