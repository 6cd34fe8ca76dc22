"""Programs that run beside a model's own library, in a process and perhaps a Python of its own: none imports ours."""
