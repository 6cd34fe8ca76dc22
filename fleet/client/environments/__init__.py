"""What a script needs beside itself, from conda's, pip's or Azure ML's files to a locked set of wheels and an image."""
