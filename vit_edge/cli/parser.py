"""The parser of a command, and how its arguments become settings."""

import argparse
import copy
import dataclasses
import re
from typing import Any, ClassVar, NoReturn, Protocol, TypeVar

from vit_edge.errors import UsageError, VitEdgeError
from vit_edge.runtime.session.session import SessionSettings
from vit_edge.spec import MapLimits, Tolerance

_FIELDS = {"--top": "top_k"}  # options whose field has another name than they

EXIT_STATUS = "Exit status: 0 done or PASS, 1 FAIL, 2 usage or bad input, 3 UNDECIDED."


class Parser(argparse.ArgumentParser):
    """A parser whose errors are UsageError, one sentence without the usage text."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing and exiting."""
        raise UsageError(f"{message}; see {self.prog} --help")


class CommandParser(Parser):
    """A parser for one command; it takes what every command takes."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings, epilog=EXIT_STATUS)
        self.add_argument("--debug", action="store_true", help="show the traceback of an error")
        self.add_argument(
            "--quiet",
            action="store_true",
            help="no progress, and no details beside the result; notes of what was assumed stay",
        )
        self.set_defaults(command=self)
        self._given: list[str] = []
        self._mixing = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does, with options among the positional arguments, too: `classify MODEL --top 2 IMAGE`.

        What was given is kept for `error`.
        """
        if self._mixing:  # argparse calls this for the options, and again for the rest
            return super().parse_known_args(args, namespace)
        self._given = list(args or ())
        found, left = super().parse_known_args(self._given, copy.copy(namespace))
        if all(word.startswith("-") and word != "--" for word in left):
            return found, left
        self._mixing = True
        try:
            return self.parse_known_intermixed_args(self._given, namespace)
        finally:
            self._mixing = False

    def error(self, message: str) -> NoReturn:
        """An option that there is not is told before one that is missing: it often is the same, misspelt."""
        if message.startswith("the following arguments are required"):
            known = self._option_string_actions
            given = [word.partition("=")[0] for word in self._given if word.startswith("--") and word != "--"]
            unknown = [name for name in given if not any(option.startswith(name) for option in known)]
            if unknown:
                message = f"unrecognized arguments: {' '.join(unknown)}"
        super().error(message)

    def option_of(self, name: str) -> str:
        """What the user calls an argument: `--max-drop`, or SOURCE."""
        for action in self._actions:
            if action.dest == name:
                return max(action.option_strings, key=len, default=str(action.metavar or action.dest))
        return name

    def dashed(self, message: str) -> str:
        """A message about settings with the names of options in place of those of fields.

        A name of several words is one wherever it stands, a single word only as what a sentence is about.
        """
        for action in self._actions:
            option = max(action.option_strings, key=len, default="")
            names = {action.dest, option.removeprefix("--").replace("-", "_"), _FIELDS.get(option, "")} - {""}
            for name in names if option else ():
                where = r"(?<![\w./-])%s(?![\w./-])" if "_" in name else r"^%s(?= must | has )"
                message = re.sub(where % re.escape(name), option, message)
        return message


class Commands(Protocol):
    """What `add_subparsers` returns."""

    def add_parser(self, name: str, **settings: Any) -> Parser:
        """A parser for one command."""
        ...


class Settings(Protocol):
    """A settings dataclass."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]


S = TypeVar("S", bound=Settings)


def settings_from(args: argparse.Namespace, kind: type[S], **stated: Any) -> S:
    """A settings dataclass filled from the arguments that bear the names of its fields.

    Raises:
        UsageError: a value that the dataclass refuses.
    """
    values = {
        field.name: getattr(args, field.name)
        for field in dataclasses.fields(kind)
        if hasattr(args, field.name)
    }
    try:
        return kind(**{**values, **stated})
    except VitEdgeError:
        raise
    except ValueError as error:
        raise UsageError(str(error)) from None


def tolerance_from(args: argparse.Namespace) -> Tolerance:
    """What the gate accepts, of maps as well.

    Raises:
        UsageError: a tolerance that no gate could apply.
    """
    return settings_from(args, Tolerance, maps=settings_from(args, MapLimits))


def session_settings(args: argparse.Namespace) -> SessionSettings:
    """Provider and threads."""
    return settings_from(args, SessionSettings)
