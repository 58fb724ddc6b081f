"""Pages that are made from the code: options, targets, rules, errors and the API."""

import argparse
import ast
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import vit_edge
from vit_edge.cli.entry import parser
from vit_edge.targets import list_targets, load_target

PACKAGE = Path(vit_edge.__file__).parent
RULES = PACKAGE / "host" / "rewrite" / "rules"


def pages() -> dict[str, str]:
    """Path in the site -> Markdown."""
    return {
        "reference/options.md": options(),
        "reference/targets.md": targets(),
        "reference/rules.md": rules(),
        "reference/errors.md": errors(),
        "reference/api.md": api(),
    }


def options() -> str:
    """Every command with its arguments, as `--help` has them."""
    action = next(each for each in parser()._actions if isinstance(each, argparse._SubParsersAction))
    told = {each.dest: each.help or "" for each in action._choices_actions}
    sections = [
        f"## {name}\n{told.get(name, '')}\n\n" + _table(("argument", "meaning"), _arguments(command))
        for name, command in action.choices.items()
    ]
    return "\n".join(["# Every command and option\n", *sections])


def _arguments(command: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    formatter = command._get_formatter()
    for action in command._actions:
        names = ", ".join(action.option_strings)
        value = "" if action.nargs == 0 else formatter._format_args(action, action.dest.upper())
        said = formatter._expand_help(action) if action.help else ""
        yield f"`{f'{names} {value}'.strip()}`", said


def targets() -> str:
    """Every device class that comes with the package."""
    rows = []
    for name in list_targets():
        target = load_target(name)
        states = ", ".join(dict.fromkeys(each.state.value for each in target.verification))
        guesses = "; ".join(map(str, target.predicted))
        rows.append((f"`{name}`", target.title, target.description, states, guesses))
    head = ("name", "title", "what it is for", "verified", "predicted, not measured")
    return "# Every target\n\n" + _table(head, rows)


def rules() -> str:
    """Every rewrite rule by its docstring."""
    found = {path.stem: ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) for path in _rules()}
    rows = [(f"`{name}`", _first(text or "")) for name, text in found.items()]
    return "# Every rewrite rule\n\n" + _table(("rule", "what it does"), rows)


def _rules() -> list[Path]:
    return sorted(path for path in RULES.glob("*.py") if not path.name.startswith("_"))


def errors() -> str:
    """Every class of errors, and every sentence that it is raised with."""
    classes = [
        node
        for node in ast.parse((PACKAGE / "errors.py").read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef)
    ]
    raised: dict[str, set[str]] = {each.name: set() for each in classes}
    for path in PACKAGE.rglob("*.py"):
        for name, message in _messages(ast.parse(path.read_text(encoding="utf-8"))):
            if name in raised:
                raised[name].add(message)
    sections = []
    for each in classes:
        lines = [f"* {_code(message)}" for message in sorted(raised[each.name])]
        sections.append(
            f"## {each.name}\n{_first(ast.get_docstring(each) or '')}\n\n" + "\n".join(lines) + "\n"
        )
    return "\n".join(["# Every error\n\nWhat stands in braces is filled in.\n", *sections])


def _messages(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """(class, sentence) of everything that is raised with a text."""
    for node in ast.walk(tree):
        call = node.exc if isinstance(node, ast.Raise) else None
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.args:
            text = _text(call.args[0])
            if text.strip("{}"):
                yield call.func.id, text


def _text(node: ast.expr) -> str:
    """A string, with the source of what is filled in between braces; empty of anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(
            each.value if isinstance(each, ast.Constant) else f"{{{ast.unparse(each.value)}}}"  # type: ignore[misc, attr-defined]
            for each in node.values
        )
    return ""


def api() -> str:
    """The public names, each from its docstring by mkdocstrings."""
    homes = vit_edge._HOME
    parts = [f"## {name}\n::: vit_edge.{homes[name]}.{name}\n" for name in vit_edge.__all__]
    return "\n".join(["# The device API\n\nImport these names from `vit_edge`.\n", *parts])


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([_cell(each) for each in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _code(text: str) -> str:
    ticks = "``" if "`" in text else "`"
    return f"{ticks} {' '.join(text.split())} {ticks}" if ticks == "``" else f"`{' '.join(text.split())}`"


def _first(text: str) -> str:
    """The first paragraph, on one line."""
    return " ".join(text.split("\n\n")[0].split())
