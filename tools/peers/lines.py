"""How many lines a user writes: counted in the recipe that is run."""

import ast
import io
import tokenize
from pathlib import Path

_NO_CODE = (
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
)


def lines_of(recipe: Path, function: str) -> int:
    """Lines of code of a function and of all in its file that it uses, without comments and docstrings.

    Args:
        recipe: the file.
        function: defined at its top level.

    Raises:
        KeyError: it is not.
    """
    text = recipe.read_text(encoding="utf-8")
    known = {
        node.name: node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }
    wanted, reached = [function], {function}
    lines: set[int] = set()
    while wanted:
        node = known[wanted.pop()]
        lines |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1)) - _docstrings(node)
        used = {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)} & set(known)
        wanted += used - reached
        reached |= used
    return len(lines & _with_code(text))


def _with_code(text: str) -> set[int]:
    found: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in _NO_CODE:
            found |= set(range(token.start[0], token.end[0] + 1))
    return found


def _docstrings(node: ast.AST) -> set[int]:
    found: set[int] = set()
    for inner in ast.walk(node):
        if (
            isinstance(inner, ast.FunctionDef | ast.ClassDef)
            and ast.get_docstring(inner, clean=False) is not None
        ):
            said = inner.body[0]
            found |= set(range(said.lineno, (said.end_lineno or said.lineno) + 1))
    return found
