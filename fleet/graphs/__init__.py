"""What a model's graph takes, gives and is made of, read from files that anybody may have made."""
