"""Python reads this at its start, in every program whose clock is moved.

libfaketime 0.9.10 makes an error of how Python sleeps (clock_nanosleep) where the wall's clock alone is moved.
"""

import threading
import time

time.sleep = lambda seconds: threading.Event().wait(seconds)
