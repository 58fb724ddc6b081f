"""The page as a document: the same facts as JSON, nothing from outside, readable without eyes."""

import dataclasses
import html
import itertools
import json
import re
from collections import Counter
from html.parser import HTMLParser

import pytest

from tests.host.report.toys import facts
from vit_edge.errors import MissingExtraError
from vit_edge.gate_report import ClassDrop
from vit_edge.host.report import needs
from vit_edge.host.report.accuracy import flips
from vit_edge.host.report.facts import Facts
from vit_edge.host.report.inside import ranges
from vit_edge.host.report.page import JSON_ID, render
from vit_edge.source_parity import ProofState, SourceParity

VOID = {"meta", "link", "img", "br", "hr", "path", "use"}
NASTY = "</script><script>alert(1)</script><img src=x onerror=alert(1)> $x_1$ \u202e\0"


class Document(HTMLParser):
    """Every start tag with its attributes, and whether all elements are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.json = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.json += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture(scope="module")
def page() -> str:
    return render(facts())


@pytest.fixture(scope="module")
def document(page: str) -> Document:
    return Document(page)


def text_of(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page[page.index("<body") :]))


def test_the_same_facts_give_the_same_bytes(page: str) -> None:
    assert render(facts()) == page


def test_every_element_is_closed(document: Document) -> None:
    assert document.open == []


def test_the_facts_stand_in_the_page_as_json(document: Document) -> None:
    whole = facts()
    read = json.loads(document.json)
    assert read == whole.to_json()
    assert read["gate"]["agreement"] == whole.gate.agreement
    assert read["models"][1]["times_ms"] == list(whole.models[1].times_ms)
    assert read["ranges"]["activations"][1]["sqnr_db"] is None  # exact: JSON has no infinity
    assert "thumbnail" not in read["flips"][0]
    script = document.all("script")
    assert script == [{"type": "application/json", "id": JSON_ID}]


def test_nothing_is_fetched_and_nothing_runs(page: str, document: Document) -> None:
    links = [
        value
        for _, attributes in document.found
        for key, value in attributes.items()
        if key in ("src", "href")
    ]
    assert all(re.match(r"data:|#", link or "") for link in links)
    assert not any(key.startswith("on") for _, attributes in document.found for key in attributes)
    assert not re.search(r"url\((?!#)|@import|https?://", page)
    policy = next(each["content"] for each in document.all("meta") if each.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_ids_are_unique_and_references_lead_somewhere(document: Document) -> None:
    ids = Counter(attributes["id"] for _, attributes in document.found if "id" in attributes)
    assert max(ids.values()) == 1
    referred = {
        (value or "").strip("url()").lstrip("#")
        for _, attributes in document.found
        for key, value in attributes.items()
        if "href" in key or key == "clip-path"
    }
    assert {each for each in referred if not each.startswith("data:")} <= set(ids)


def test_charts_take_their_colours_from_the_page(page: str) -> None:
    charts = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
    assert len(charts) == 3 + 5 + 1 + 4  # measured, per kind of layer, all activations, the worst inputs
    for chart in charts:
        assert set(re.findall(r"(?:fill|stroke): (?!none|var\()([^;\"]+)", chart)) == set()
        assert "DejaVu" not in chart
    declared = set(re.findall(r"(--[a-z0-9]+):", page))
    assert set(re.findall(r"var\((--[a-z0-9]+)\)", page)) <= declared


def test_pictures_and_charts_are_described_in_words(document: Document) -> None:
    assert all(each["role"] == "img" and each["aria-label"] for each in document.all("svg"))
    assert all(each["alt"] for each in document.all("img"))
    assert all(each["scope"] in ("row", "col") for each in document.all("th"))
    assert len(document.all("caption")) == len(document.all("table"))


def test_headings_step_down_one_by_one(document: Document) -> None:
    levels = [int(tag[1]) for tag, _ in document.found if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_hostile_names_and_labels_stay_text(document: Document) -> None:
    hostile = Document(render(facts(label=NASTY, name=NASTY)))
    tags = Counter(tag for tag, _ in hostile.found)
    assert tags == Counter(tag for tag, _ in document.found)
    assert not any(key.startswith("on") for _, attributes in hostile.found for key in attributes)
    assert json.loads(hostile.json)["judged"] == NASTY


@pytest.mark.parametrize(
    ("state", "tone"),
    [
        (ProofState.PROVEN, "pass"),
        (ProofState.DIFFERS, "fail"),
        (ProofState.NOT_PROVEN, "undecided"),
    ],
)
def test_the_chain_from_the_source_stands_above_the_verdict(state: ProofState, tone: str) -> None:
    parity = SourceParity(state, "because of <this>")
    page = render(dataclasses.replace(facts(), source_parity=parity))
    assert page.index('class="chain"') < page.index('class="verdict ')
    assert f'<strong class="word {tone}">{state.value}</strong>' in page
    assert "Source to float: because of &lt;this&gt;." in page


def test_a_report_on_two_files_says_that_their_source_is_not_proven(page: str) -> None:
    assert ">not proven</strong>" in page


def test_the_verdict_heads_the_page(page: str) -> None:
    head, _, verdict = text_of(page).partition(" Source to float: ")
    assert head == " Float against INT8 quant.onnx source → not proven → float → FAIL → INT8"
    assert ". FAIL Refuted at 95 % confidence" in verdict


def bare(whole: Facts) -> Facts:
    """What is known of a file from elsewhere whose operands cannot be read."""
    nothing = dataclasses.replace(whole.ranges, activations=(), weights=())
    return dataclasses.replace(whole, layers=(), ranges=nothing, worst=(), recipe=None, default=None)


def test_what_is_not_known_is_said() -> None:
    page = text_of(render(bare(facts())))
    assert "quant.onnx does not record what was decided for its layers" in page
    assert "no range can be shown" in page
    assert "does not record how it was quantized" in page
    assert "The choice" not in page


@pytest.mark.parametrize(
    ("p_value", "words"),
    [
        (0.4, "None of these losses is more than chance"),
        (None, "leaves no test of single classes"),
        (0.001, ""),
    ],
)
def test_losses_of_classes_are_called_chance_only_where_that_was_tested(
    p_value: float | None, words: str
) -> None:
    whole = facts()
    gate = dataclasses.replace(whole.gate, worst_classes=(ClassDrop("cat", 9, 30.0, p_value),))
    page = text_of(render(dataclasses.replace(whole, gate=gate)))
    said = [note for note in ("None of these losses", "leaves no test of single classes") if note in page]
    assert words in page
    assert len(said) == bool(words)


def test_without_labels_answers_are_compared_and_accuracy_is_not_claimed() -> None:
    page = text_of(render(bare(facts(labelled=False))))
    assert "a share of changed predictions of at most 3 %. On 200 images it is " in page
    assert "Top-1 accuracy" not in page
    assert "truth:" not in page


def test_no_flip_is_a_sentence_and_no_empty_list() -> None:
    section = flips(dataclasses.replace(facts(flips=0), flips_total=0))
    assert "Both models give the same answer on all 200 images." in section
    assert "<ul" not in section


def test_more_flips_than_pictures_are_counted(page: str) -> None:
    text = text_of(page)
    assert "31 of 200 images get another answer" in text
    assert "Shown are 24 of them" in text


def test_a_bundle_that_runs_float_says_so() -> None:
    whole = dataclasses.replace(bare(facts()), default="float.onnx")
    assert "runs the float model, float.onnx" in render(whole)


def test_every_form_and_every_candidate_is_named(page: str) -> None:
    text = text_of(page)
    for words in (
        "INT8, one scale per token: 4",
        "new form: 4",
        "the only quantization of this file that passes",
        "fast (chosen)",
    ):
        assert words in text


@pytest.mark.parametrize("name", ["猫と犬.onnx", "a" * 60 + ".onnx", "$x_1$.onnx"])
def test_names_in_any_script_and_length_are_shown_and_fit_their_charts(name: str) -> None:
    page = render(bare(facts(name=name)))
    drawn = [html.unescape(text) for text in re.findall(r"<text[^>]*>(.*?)</text>", page)]
    assert name in page
    assert max(map(len, drawn)) < 70
    assert any(text.startswith(name[:18]) for text in drawn)


def test_a_missing_matplotlib_is_one_sentence_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needs, "_NEEDED", ("a_module_that_is_nowhere",))
    with pytest.raises(MissingExtraError, match=r"run: pip install 'vit-edge\[report\]'"):
        render(bare(facts()))
    assert not needs.is_installed()


def test_activations_that_are_all_exact_are_a_sentence() -> None:
    whole = facts()
    exact = tuple(dataclasses.replace(each, sqnr_db=float("inf")) for each in whole.ranges.activations)
    section = ranges(dataclasses.replace(whole, ranges=dataclasses.replace(whole.ranges, activations=exact)))
    assert "Every quantized activation is exact on the 4 images observed." in section
