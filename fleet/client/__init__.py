"""The publisher's and operator's side: the command ``edgefleet`` and the functions under it; nothing of the server."""
