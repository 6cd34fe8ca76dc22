"""A model becomes a module: packed, with its reference answers, sent as a draft; and fetched back."""
