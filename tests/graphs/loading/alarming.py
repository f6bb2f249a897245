"""Has the kernel end the process after a while."""

import signal

from loading import graph

signal.alarm(30)
seen = graph()
