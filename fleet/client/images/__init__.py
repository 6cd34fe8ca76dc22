"""Container images: built in the engine of this machine, read, and kept in the workspace."""
