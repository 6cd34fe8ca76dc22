"""The scoring server on this machine: to serve, to measure, and to answer what devices are held to."""
