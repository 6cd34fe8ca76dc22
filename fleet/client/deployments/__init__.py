"""How a service is to be deployed, as data: Azure ML's deployment configurations, from a script or from their file."""
