"""Who may do what: roles and scopes, operators with their passwords and sessions, and who a request comes from."""
