"""A factory whose server is not up yet: it is there once a file is."""

import os
from pathlib import Path
from typing import Any

from loading import two


def seen(checkpointer: Any) -> Any:
    if not Path(os.environ["LATE_SERVER"]).exists():
        raise ConnectionRefusedError("nobody listens at mcp.internal:9000")
    return two().compile(checkpointer=checkpointer)
