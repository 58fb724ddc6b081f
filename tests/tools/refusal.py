"""What the fixture `refusal` takes and is."""

from collections.abc import Callable

Main = Callable[[list[str]], int]
Refusal = Callable[[Main, list[str]], str]
