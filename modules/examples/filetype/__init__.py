"""What kind of file some bytes are: Google's Magika model behind an entry script that takes the raw body."""
