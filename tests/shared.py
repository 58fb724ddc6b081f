"""What takes long to make and is the same for every test: made by one process of a run, for all of them."""

import fcntl
import shutil
from collections.abc import Callable
from pathlib import Path


def made_once(place: Path, make: Callable[[Path], object]) -> Path:
    """A folder as `make` leaves it; what fails is tried again by the next that asks.

    Args:
        place: in the folder of the run.
        make: fills an empty folder.
    """
    done = place.with_name(f"{place.name}.done")
    with place.with_name(f"{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(place, ignore_errors=True)  # what a failure left
            place.mkdir()
            make(place)
            done.touch()
    return place
