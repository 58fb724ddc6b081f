"""Layouts of keys as data: each reads what is written under it, and a new one is a file and a line."""

import dataclasses
import itertools
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vit_edge.errors import SourceError
from vit_edge.host.sources import SourceOptions, resolve
from vit_edge.host.sources.checkpoints import build, detect_layout, known, resize_position_embedding
from vit_edge.host.sources.checkpoints.layout import Layout, Resampling
from vit_edge.host.sources.checkpoints.layouts.timm import TIMM
from vit_edge.host.vit import Distillation, VisionTransformer, VitConfig
from vit_edge.spec import Interpolation, ResizeMode

ROOM = Path(known.__file__).parent
DOCS = Path(__file__).parents[3] / "docs"
HALF = (0.5, 0.5, 0.5)
STATED = SourceOptions(mean=HALF, std=HALF, interpolation=Interpolation.BICUBIC, resize_mode=ResizeMode.EXACT)
NAMED = SourceOptions(arch="vit_tiny_patch16_224")
TINY = VitConfig((48, 48), (16, 16), 192, 12, 3, 768, 3)

# As somebody else might name them: an epsilon, a resampling and left-over keys of its own, no distillation.
_BLOCK = "trunk.stage_{layer}"
OTHERS = Layout(
    library="Somebody",
    marks=(r"stem\.project\.weight", r"trunk\.stage_0\.mix_in_weight"),
    keys=lambda _: {
        "cls_token": "summary",
        "pos_embed": "places",
        "patch_embed.proj.{kind}": "stem.project.{kind}",
        "blocks.{layer}.norm1.{kind}": f"{_BLOCK}.norm_a.{{kind}}",
        "blocks.{layer}.attn.qkv.{kind}": f"{_BLOCK}.mix_in_{{kind}}",
        "blocks.{layer}.attn.proj.{kind}": f"{_BLOCK}.mix_out.{{kind}}",
        "blocks.{layer}.norm2.{kind}": f"{_BLOCK}.norm_b.{{kind}}",
        "blocks.{layer}.mlp.fc1.{kind}": f"{_BLOCK}.up.{{kind}}",
        "blocks.{layer}.mlp.fc2.{kind}": f"{_BLOCK}.down.{{kind}}",
        "norm.{kind}": "trunk.norm.{kind}",
        "head.{kind}": "answer.{kind}",
    },
    resampling=Resampling("Somebody's", antialias=False, align_corners=True),
    layer_norm_eps=1e-3,
    left_over=r"teacher\..*",
)


def model_of(config: VitConfig) -> VisionTransformer:
    torch.manual_seed(0)
    model = VisionTransformer(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)  # large enough that a swapped tensor shows
    return model.eval()


def written(model: VisionTransformer, layout: Layout) -> dict[str, Tensor]:
    """A model's weights under the keys of a layout."""
    state = model.state_dict()
    parts = {
        name: torch.chunk(state[name], len(keys)) for name, keys in layout.table(model.config, "it").items()
    }
    return {
        key: part.clone()
        for name, keys in layout.table(model.config, "it").items()
        for key, part in zip(keys, parts[name], strict=True)
    }


def saved(state: object, path: Path) -> str:
    torch.save(state, path)
    return str(path)


def config_of(layout: Layout, distillation: Distillation) -> VitConfig:
    return dataclasses.replace(TINY, distillation=distillation, layer_norm_eps=layout.layer_norm_eps)


CASES = [
    pytest.param(layout, distillation, id=f"{layout.library} {number}, {distillation.value}")
    for (number, layout), distillation in itertools.product(enumerate(known.LAYOUTS), Distillation)
    if distillation is Distillation.NONE
    or (layout.key("dist_token", distillation) and (layout.distillation or distillation is Distillation.HEAD))
]


@pytest.mark.parametrize(("layout", "distillation"), CASES)
def test_what_is_written_under_a_layout_is_recognised_and_reads_back_equal(
    layout: Layout, distillation: Distillation, tmp_path: Path
) -> None:
    model = model_of(config_of(layout, distillation))
    state = written(model, layout)
    assert detect_layout(state, "it") is layout
    read = resolve(saved(state, tmp_path / "w.pth"), STATED)
    assert read.config == model.config
    assert read.module is not None
    back = read.module.state_dict()
    assert back.keys() == model.state_dict().keys()
    assert all(torch.equal(back[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("library", dict.fromkeys(layout.library for layout in known.LAYOUTS))
def test_every_library_has_its_row_in_the_documentation(library: str) -> None:
    assert f"| no `--arch`, {library}'s keys |" in (DOCS / "checkpoints.md").read_text(encoding="utf-8")


# --- a layout of one's own: nothing knows it but its own definition and the list


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> Layout:
    monkeypatch.setattr(known, "LAYOUTS", (*known.LAYOUTS, OTHERS))
    return OTHERS


@pytest.mark.parametrize(
    "path", [("",), ("model", ""), ("state_dict", "module.net.")], ids=["bare", "in a container", "prefixed"]
)
@pytest.mark.parametrize("options", [STATED, NAMED], ids=["by its shapes", "by its name"])
def test_a_layout_that_joins_the_list_is_read_wherever_its_keys_stand(
    path: tuple[str, ...], options: SourceOptions, joined: Layout, tmp_path: Path
) -> None:
    model = model_of(config_of(joined, Distillation.NONE))
    *containers, prefix = path
    state: dict[str, object] = {prefix + key: value for key, value in written(model, joined).items()}
    state[f"{prefix}teacher.weight"] = torch.ones(3)
    for container in reversed(containers):
        state = {container: state, "epoch": 3}
    read = resolve(saved(state, tmp_path / "w.pth"), options)
    assert read.module is not None
    images = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert torch.equal(read.module(images), model(images))
    assert read.own_pipeline is None  # no library reads such a file by timm's names


def test_its_positions_are_resampled_as_its_library_does(joined: Layout, tmp_path: Path) -> None:
    model = model_of(config_of(joined, Distillation.NONE))
    file = saved(written(model, joined), tmp_path / "w.pth")
    read = resolve(file, dataclasses.replace(STATED, image_size=(80, 112)))
    assert read.notes[-1] == (
        "the position embedding is resampled from 3 x 3 to 5 x 7 patches as in Somebody's (bicubic, not "
        "antialiased, corners aligned)"
    )
    assert isinstance(read.module, VisionTransformer)
    before = model.pos_embed[0, 1:].reshape(3, 3, -1)
    after = read.module.pos_embed[0, 1:].reshape(5, 7, -1)
    for row, column in itertools.product((0, -1), repeat=2):  # corners aligned: the outermost stay
        torch.testing.assert_close(after[row, column], before[row, column], atol=1e-6, rtol=0)


def test_a_parameter_that_its_library_does_not_have_is_refused_by_name(
    joined: Layout, tmp_path: Path
) -> None:
    file = saved(written(model_of(TINY), joined), tmp_path / "w.pth")
    options = SourceOptions(arch="deit_tiny_distilled_patch16_224")
    with pytest.raises(SourceError, match=r"keys of Somebody, whose ViT has no dist_token: check the arch"):
        resolve(file, options)


def test_a_missing_class_token_is_refused_where_the_library_never_averages(
    joined: Layout, tmp_path: Path
) -> None:
    state = written(model_of(TINY), joined)
    del state["summary"]
    with pytest.raises(SourceError, match="it lacks summary"):
        resolve(saved(state, tmp_path / "w.pth"), STATED)


def test_without_its_line_in_the_list_it_is_unknown(tmp_path: Path) -> None:
    file = saved(written(model_of(TINY), OTHERS), tmp_path / "w.pth")
    with pytest.raises(
        SourceError,
        match=r"neither timm's nor Hugging Face's nor torchvision's keys of a ViT or DeiT \(",
    ):
        resolve(file, STATED)


def test_one_mark_alone_is_not_the_layout() -> None:
    assert not OTHERS.fits(["stem.project.weight"])
    assert not OTHERS.fits(["module.stem.project.weight", "trunk.stage_0.mix_in_weight"])
    assert OTHERS.fits(["trunk.stage_0.mix_in_weight", "stem.project.weight"])


def test_a_newcomer_touches_two_files_and_the_page_names_them() -> None:
    page = (DOCS / "add-a-layout.md").read_text(encoding="utf-8")
    assert "You touch two files" in page
    assert "`vit_edge/host/sources/checkpoints/layouts/<name>.py`" in page
    assert "../vit_edge/host/sources/checkpoints/known.py" in page
    # Each file of a layout is taken up by the list.
    listed = (ROOM / "known.py").read_text(encoding="utf-8")
    for file in (ROOM / "layouts").glob("[a-z]*.py"):
        assert f"checkpoints.layouts.{file.stem} import" in listed


@pytest.mark.parametrize("antialias", [True, False])
def test_resampling_with_and_without_antialiasing_differs_and_both_have_words(antialias: bool) -> None:
    plane = torch.randn(1, 9 * 9, 2, generator=torch.Generator().manual_seed(0))
    way, other = (Resampling("it", each) for each in (antialias, not antialias))
    results = [resize_position_embedding(plane, 0, (9, 9), (4, 4), each) for each in (way, other)]
    assert (results[0] - results[1]).abs().max() > 0.1
    assert way.words == f"it (bicubic, {'' if antialias else 'not '}antialiased)"


def test_build_takes_timms_keys_as_they_are() -> None:
    model = model_of(TINY)
    assert all(keys == (name,) for name, keys in TIMM.table(TINY, "it").items())
    assert TIMM.table(TINY, "it").keys() == model.state_dict().keys()
    assert torch.equal(build(model.state_dict(), TINY, "it").pos_embed, model.pos_embed)
