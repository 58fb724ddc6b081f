"""The types of the package for Node, held against its module and by TypeScript's compiler."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.package.conftest import run
from tests.package.digits import Digits
from vit_edge.cli import main

# Every export, used as the package's README does and as its types say.
USED = """
import { check, classify, decoded, labels, open } from "app";
import type { Check, Pixels, Prediction, Source } from "app";

const first: Prediction[] = await classify("photo.jpg");
const best: string = first[0]!.label;
const share: number = first[0]!.score + first[0]!.index;
const float = await open({ file: "float" });
const few: Prediction[] = await float.classify(new Uint8Array(9), { top: 3 });
const raw: Pixels = { data: new Uint8ClampedArray(12), width: 2, height: 2 };
const sources: Source[] = [raw, "photo.jpg", new Uint8Array(9)];
const upright: Pixels = await decoded(sources[0]!);
const names: string[] = labels ?? [best];
const held: Check[] = await check();
const whole: boolean = held.every((each) => each.good && each.difference <= each.tolerance);
export { few, names, share, upright, whole };
"""


@pytest.fixture(scope="module")
def project(digits: Digits, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that has the package as a dependency."""
    folder = tmp_path_factory.mktemp("types")
    package = folder / "node_modules" / "app"
    package.parent.mkdir()
    assert main(["package", str(digits.bundle), "--for", "node", "-o", str(package)]) == 0
    (folder / "package.json").write_text(json.dumps({"type": "module"}))
    options = {"module": "nodenext", "target": "es2022", "strict": True, "noEmit": True, "types": []}
    options |= {"lib": ["es2022"], "noUncheckedIndexedAccess": True, "skipLibCheck": False}
    (folder / "tsconfig.json").write_text(json.dumps({"compilerOptions": options, "files": ["use.mts"]}))
    return folder


def compiled(project: Path, typescript: Path, text: str) -> "subprocess.CompletedProcess[str]":
    (project / "use.mts").write_text(text)
    return run("node", typescript / "bin" / "tsc", "-p", ".", cwd=project)


def test_what_the_package_offers_compiles(project: Path, typescript: Path) -> None:
    done = compiled(project, typescript, USED)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_types_name_every_export_of_the_module_and_no_other(project: Path) -> None:
    package = project / "node_modules" / "app"
    found = re.compile(r"^export (?:async )?(?:function|const) (\w+)", re.MULTILINE)
    declared, offered = (
        set(found.findall((package / f"index.{end}").read_text())) for end in ("d.ts", "mjs")
    )
    assert (
        declared
        == offered
        == {
            "check",
            "classify",
            "decoded",
            "detect",
            "gives",
            "labels",
            "open",
            "segment",
        }
    )


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("await classify(7);", "not assignable to parameter of type 'Source'"),
        ("await classify('a.jpg', { top: '3' });", "Type 'string' is not assignable to type 'number'"),
        ("await open({ file: 'fp16' });", 'Type \'"fp16"\' is not assignable to type \'"float" | "int8"'),
        ("const one: string = (await classify('a.jpg'))[0]!.score;", "Type 'number' is not assignable"),
        ("labels.length;", "'labels' is possibly 'null'"),
        ("await classify({ data: new Uint8Array(12), width: 2 });", "height"),
    ],
)
def test_a_wrong_use_does_not_compile(project: Path, typescript: Path, wrong: str, said: str) -> None:
    start = 'import { classify, labels, open } from "app";\nexport { classify, labels, open };\n'
    done = compiled(project, typescript, start + wrong + "\n")
    assert done.returncode != 0
    assert said in done.stdout
    assert re.findall(r"error TS\d+", done.stdout)
    assert all(line.startswith(("use.mts", " ")) for line in done.stdout.splitlines())
