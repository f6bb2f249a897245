"""An import that lets no other thread run: nothing in its process goes on."""

import re

re.match(r"(a+)+$", "a" * 64 + "b")
