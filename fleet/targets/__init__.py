"""Endpoints in the cloud: the signed modules that devices run, on a container host or (one day) on Kubernetes."""
