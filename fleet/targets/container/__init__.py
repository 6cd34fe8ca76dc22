"""Endpoints on a container host, over Docker's API: replicas in a network of their own, behind a gateway."""
