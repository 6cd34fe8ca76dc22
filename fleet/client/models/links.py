"""Which links of a model's folder are followed: those that stay inside, and those into a cache of whole files.

A link anywhere else could take a file of the publisher's own machine into a module, so it is refused.
"""

from pathlib import Path
from typing import Final

# Where DVC and git-annex keep the files that they put links in place of.
_CACHES: Final = ((".dvc", "cache"), (".git", "annex", "objects"))


def followed(path: Path, folder: Path) -> bool:
    """Whether a path of ``folder`` leads to something inside it, or into a cache of files named by their digest."""
    target = path.resolve()
    return target.is_relative_to(folder.resolve()) or _cached(target)


def _cached(target: Path) -> bool:
    # huggingface_hub: blobs/<digest>, to which snapshots/<revision>/<name> are links.
    if target.parent.name == "blobs" and (target.parent.parent / "snapshots").is_dir():
        return True
    parts = target.parts
    return any(
        parts[start : start + len(cache)] == cache for cache in _CACHES for start in range(len(parts) - len(cache))
    )
