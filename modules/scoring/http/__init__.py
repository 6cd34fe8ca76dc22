"""HTTP/1.1 as the scoring server speaks it: connections, who may ask, how much at once, the routes of ``/score``."""
