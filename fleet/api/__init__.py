"""The HTTP API, a router per noun. Handlers translate: what they call decides, and knows no HTTP."""
