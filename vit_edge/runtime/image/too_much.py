"""What the checks of a file's structure raise."""


class TooMuch(ValueError):  # noqa: N818  it is no fault of the reader's
    """More than any picture needs; the message is a clause about the file."""
