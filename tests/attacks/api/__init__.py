"""A package, so that what its tests share is stopped after the last of them and not at the end of the whole run."""
