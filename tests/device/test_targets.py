"""Targets are data: strict TOML with inheritance, and no code knows their names."""

import ast
from pathlib import Path

import pytest

import vit_edge
from vit_edge.errors import TargetError
from vit_edge.spec import ActivationType, Batch, InputForm
from vit_edge.targets import list_targets, load_target

PACKAGE = Path(vit_edge.__file__).parent

COMPLETE = """
title = "A board"
description = "Its description."
activation_type = "uint8"
weight_type = "int8"
weight_bits = 8
per_channel = true
integer_attention = false
float_type = "float32"
batch = "dynamic"
input_form = "pixel_values"
wheel = "onnxruntime"
verified = ["Run on a desk."]
[session_options]
"session.qdqisint8allowed" = "1"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "board.toml").write_text(COMPLETE)
    return tmp_path


@pytest.mark.parametrize("name", list_targets())
def test_every_target_that_we_ship_loads(name: str) -> None:
    target = load_target(name)
    assert target.name == name
    assert target.wheel


def test_the_portable_target_needs_no_option_and_any_batch_fits() -> None:
    portable = load_target("cpu")
    assert portable.session_options == ()
    assert portable.batch is Batch.DYNAMIC
    assert portable.input_form is InputForm.PIXEL_VALUES


def test_a_target_is_read_field_by_field(folder: Path) -> None:
    board = load_target("board", folder)
    assert (board.title, board.activation_type, board.weight_bits) == ("A board", ActivationType.UINT8, 8)
    assert board.session_options == (("session.qdqisint8allowed", "1"),)
    assert board.verified == ("Run on a desk.",)


def test_an_heir_changes_only_what_it_says(folder: Path) -> None:
    (folder / "new.toml").write_text(
        'inherits = "board"\ntitle = "New"\ndescription = "Newer."\nverified = []\nweight_bits = 4\n'
    )
    new, board = load_target("new", folder), load_target("board", folder)
    assert (new.title, new.weight_bits, new.verified) == ("New", 4, ())
    assert (new.session_options, new.batch, new.wheel) == (board.session_options, board.batch, board.wheel)


@pytest.mark.parametrize("key", ["title", "description", "verified"])
def test_what_speaks_of_one_target_is_not_inherited(folder: Path, key: str) -> None:
    own = {"title": '"New"', "description": '"Newer."', "verified": "[]"}
    lines = [f"{name} = {value}" for name, value in own.items() if name != key]
    (folder / "new.toml").write_text("\n".join(['inherits = "board"', *lines]))
    with pytest.raises(TargetError, match=f"lacks the key '{key}'"):
        load_target("new", folder)


@pytest.mark.parametrize("name", ["nonesuch", "../board", "board.toml", "", "/etc/passwd", "BOARD"])
def test_a_name_that_is_not_listed_is_refused_with_those_that_are(folder: Path, name: str) -> None:
    with pytest.raises(TargetError, match=r"unknown target.*known are board"):
        load_target(name, folder)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('title = "A board"', 'titel = "A board"', "unknown key 'titel'"),
        ('title = "A board"', "", "lacks the key 'title'"),
        ('title = "A board"', "title = 3", "title must be a non-empty string"),
        ('"uint8"', '"uint16"', "activation_type must be one of uint8, int8"),
        ("weight_bits = 8", "weight_bits = 3", "weight_bits must be one of 4, 8"),
        ("weight_bits = 8", "weight_bits = 8.0", "weight_bits must be one of 4, 8"),
        ("per_channel = true", "per_channel = 1", "per_channel must be true or false"),
        ('"dynamic"', '"free"', "batch must be one of"),
        ('"pixel_values"', '"images"', "input_form must be one of"),
        ('verified = ["Run on a desk."]', 'verified = "desk"', "verified must be a list"),
        ("session.qdqisint8allowed", "session.load_model_format", "session.load_model_format"),
        ('allowed" = "1"', 'allowed" = 1', "must be '0' or '1'"),
        ("per_channel = true", "per_channel = ", "not valid TOML"),
        ("per_channel = true", "inherits = 3\nper_channel = true", "inherits must be a name"),
        ("per_channel = true", 'inherits = "ghost"\nper_channel = true', r"'ghost' \(inherited by board\)"),
    ],
)
def test_a_malformed_target_is_refused(folder: Path, old: str, new: str, message: str) -> None:
    assert old in COMPLETE
    (folder / "board.toml").write_text(COMPLETE.replace(old, new))
    with pytest.raises(TargetError, match=message):
        load_target("board", folder)


def test_a_target_that_inherits_itself_is_refused(folder: Path) -> None:
    (folder / "a.toml").write_text('inherits = "b"')
    (folder / "b.toml").write_text('inherits = "a"')
    with pytest.raises(TargetError, match="a -> b -> a"):
        load_target("a", folder)


def test_a_file_that_is_not_text_or_far_too_large_is_refused(folder: Path) -> None:
    (folder / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TargetError, match="not valid TOML"):
        load_target("bytes", folder)
    (folder / "large.toml").write_text("# padding\n" * 10_000)
    with pytest.raises(TargetError, match="larger than"):
        load_target("large", folder)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="cannot be read"):
        list_targets(tmp_path / "nowhere")


def names_branched_on(source: str) -> set[str]:
    """String literals that are compared, matched or looked up."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        parts: list[ast.AST | None] = []
        if isinstance(node, ast.Compare):
            parts = [node.left, *node.comparators]
        elif isinstance(node, ast.MatchValue | ast.Subscript):
            parts = [node.value if isinstance(node, ast.MatchValue) else node.slice]
        elif isinstance(node, ast.Dict):
            parts = list(node.keys)
        for part in parts:
            inner = ast.walk(part) if part is not None else ()
            found |= {n.value for n in inner if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    return found


@pytest.mark.parametrize(
    ("source", "caught"),
    [
        ('if target.name == "board": pass', True),
        ('if target.name in ("x", "board"): pass', True),
        ('match name:\n    case "board": pass', True),
        ('{"board": 1}', True),
        ('table["board"]', True),
        ('print("board")', False),
    ],
)
def test_the_search_for_branches_finds_them(source: str, caught: bool) -> None:
    assert ("board" in names_branched_on(source)) is caught


def test_no_code_branches_on_a_targets_name() -> None:
    names = set(list_targets())
    for path in PACKAGE.rglob("*.py"):
        source = path.read_text()
        assert not names & names_branched_on(source), path
        assert not [name for name in names if "-" in name and name in source], path
