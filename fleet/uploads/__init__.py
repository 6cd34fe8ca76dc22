"""Models that somebody brought to the server and nobody has signed: kept apart from all that devices may fetch."""
