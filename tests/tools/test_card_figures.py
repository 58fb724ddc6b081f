"""What the card says of transformers.js: from a record of a run, never by hand."""

import json
from pathlib import Path

import pytest

from tools.card_figures import PLACE, main, of_record
from vit_edge.host.bundling.transformers_js import measured, read_figures

ROOT = Path(__file__).resolve().parents[2]
RECORD = ROOT / "models" / "results" / "transformers_js.json"


def test_the_figures_of_the_card_are_those_of_the_kept_record(tmp_path: Path) -> None:
    made = tmp_path / "figures.json"
    assert main([str(RECORD), "-o", str(made)]) == 0
    assert made.read_bytes() == PLACE.read_bytes()


def test_the_sentence_names_version_images_model_and_both_files() -> None:
    record = json.loads(RECORD.read_text())
    said, home = measured().sentence, record["homes"]["transformers.js"]
    assert said.startswith(home["version"].partition(",")[0])
    assert f"on {record['images']['count']} photos with {record['model']['name']}" in said
    for file, name in (("float", "float"), ("int8", "INT8")):
        same, most = home[file]["same_label"], home[file]["largest_probability_difference"]
        words = (
            f"{same} of 50 labels are Python's with the {name} file, probabilities differ by up to {most:g}"
        )
        assert words in said


@pytest.mark.parametrize("text", ["{}", "[]", "no JSON", '{"homes": {"node": {}}}'])
def test_what_is_no_record_of_a_run_is_refused_and_nothing_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    record = tmp_path / "record.json"
    record.write_text(text)
    assert main([str(record), "-o", str(tmp_path / "figures.json")]) == 2
    assert "holds no run of transformers.js" in capsys.readouterr().err
    assert not (tmp_path / "figures.json").exists()


def test_figures_that_lack_a_file_are_refused() -> None:
    raw = json.loads(PLACE.read_text())
    del raw["int8"]
    with pytest.raises(ValueError, match="int8"):
        read_figures(json.dumps(raw))


def test_a_record_keeps_the_first_part_of_the_version() -> None:
    assert of_record(json.loads(RECORD.read_text())).version == "transformers.js 4.3.2"
