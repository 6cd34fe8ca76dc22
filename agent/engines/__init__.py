"""What can start a module on a device: a container engine, or, for trying things out, a child process."""
