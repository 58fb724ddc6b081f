"""How far long work has come, as whoever watches is told."""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]  # (what is being done, steps done, steps in all)
Step = Callable[[int, int], None]  # the same of one step: (done, in all)


def silent(_: str) -> Step:
    """A step of which nobody is told."""
    return lambda *_: None


def step_of(progress: Progress | None, what: str) -> Step:
    """Progress of the step `what`."""
    if progress is None:
        return silent(what)
    return lambda done, count: progress(what, done, count)
