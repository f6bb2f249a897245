"""Clocks that disagree, by libfaketime."""

import sysconfig
from pathlib import Path


def shifted(seconds: int | Path) -> dict[str, str]:
    """Settings under which a process believes another time, or what a file says; its monotonic clock is left alone."""
    places = Path(sysconfig.get_path("purelib"), "libfaketime").rglob("libfaketime*.so*")
    library = next(place for place in places if "MT" not in place.name)
    how = (
        {"FAKETIME_TIMESTAMP_FILE": str(seconds), "FAKETIME_NO_CACHE": "1"}
        if isinstance(seconds, Path)
        else {"FAKETIME": f"{seconds:+}s"}
    )
    return {"LD_PRELOAD": str(library), "FAKETIME_DONT_FAKE_MONOTONIC": "1", **how}


def set_clock(file: Path, seconds: int) -> None:
    """Say in the file how far off the clocks of its processes are: in one step, libfaketime reads it at any time."""
    new = file.with_suffix(".new")
    new.write_text(f"{seconds:+}s")
    new.replace(file)
