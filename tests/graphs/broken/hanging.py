"""A module of a value's class whose import does not end after the deploy."""

import time
from dataclasses import dataclass

from broken.stage import DEPLOYED

if DEPLOYED:
    time.sleep(3600)


@dataclass
class Value:
    number: int
