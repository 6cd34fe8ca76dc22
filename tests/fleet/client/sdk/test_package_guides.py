"""What Azure ML's guides to packages and to Functions have people write, with nothing changed but the imports.

Each text is a program of its own; what it leaves is used as a stranger uses it, with Docker alone: built from the
folder, run at a port, a file dropped into a folder, a message sent to a real broker.
"""
