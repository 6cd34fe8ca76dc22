"""Endpoints in a namespace of a Kubernetes cluster, brought about through its API by server-side apply."""
