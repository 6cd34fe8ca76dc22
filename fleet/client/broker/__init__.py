"""What a broker enforces: probes of its rules, and what their outcome means for a fleet."""
