"""The console's pages, a file for each noun; each is imported when the console is mounted."""
