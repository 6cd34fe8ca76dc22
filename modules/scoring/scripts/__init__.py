"""Entry scripts: worker processes, what is said between them and the server, and what scripts find around them."""
