"""Ends the process a good second after it was imported, when everybody is at work."""

import os
import threading

from loading import graph

threading.Timer(2.5, os._exit, (4,)).start()
seen = graph()
