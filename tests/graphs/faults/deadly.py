"""A class of a state whose module ends the process that imports it; where MISCHIEF is not set, it does not yet."""

import os
from dataclasses import dataclass

if os.environ.get("MISCHIEF"):
    os._exit(1)


@dataclass
class Deadly:
    number: int
