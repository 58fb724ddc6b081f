"""Products that read 8 bits where activations have 16: what is read, what is given, and what it costs."""

import dataclasses

import numpy as np
import onnx
import pytest

from tests.host.lower.test_full_integer import form_of
from tests.host.quantize.small_vit import PREPROCESS, decibels, images, small, written
from vit_edge.host.convert.for_target import for_target, widths
from vit_edge.host.convert.int8 import as_written
from vit_edge.host.lower.full_integer import lower_full_integer
from vit_edge.host.lower.model import lower
from vit_edge.host.plan import FullIntegerPlan, Need, RowRange
from vit_edge.host.quantize.observe import logits
from vit_edge.host.quantize.search import Search, search_of
from vit_edge.host.quantize.types import Preset, QuantizeSettings
from vit_edge.spec import ActivationType, Arithmetic
from vit_edge.targets import load_target

WIDE = form_of(ActivationType.UINT16)


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> Search:
    paths = written(tmp_path_factory.mktemp("calibration"), 24)
    settings = QuantizeSettings(Preset.STATIC, arithmetics=(Arithmetic.INTEGER,))
    return search_of(small(), paths, PREPROCESS, settings)


@pytest.fixture(scope="module")
def plan(search: Search) -> FullIntegerPlan:
    assert search.full_integer is not None
    return search.full_integer


def all_narrow(plan: FullIntegerPlan) -> FullIntegerPlan:
    return dataclasses.replace(plan, narrow=frozenset([*plan.linears, *plan.attentions]))


def types_of(model: onnx.ModelProto, node: onnx.NodeProto) -> tuple[list[str], str]:
    """The types of the codes that an operator reads and gives."""
    arrays = {item.name: onnx.numpy_helper.to_array(item) for item in model.graph.initializer}
    makers = {name: each for each in model.graph.node for name in each.output}
    takers = {name: each for each in model.graph.node for name in each.input}
    read = [str(arrays[makers[name].input[2]].dtype) for name in node.input]
    return read, str(arrays[takers[node.output[0]].input[2]].dtype)


def test_narrow_products_read_eight_bits_and_give_sixteen(search: Search, plan: FullIntegerPlan) -> None:
    model = lower_full_integer(search.canonical, WIDE, all_narrow(plan))
    products = [node for node in model.graph.node if node.op_type == "MatMul"]
    assert len(products) == len(plan.linears) + 2 * len(plan.attentions)
    for node in products:
        second = "int8" if node.name.endswith(".product") else "uint8"
        assert types_of(model, node) == (["uint8", second], "uint16"), node.name
    others = [node for node in model.graph.node if node.op_type in ("Add", "Mul", "Softmax", "Gelu")]
    assert others
    for node in others:
        read, given = types_of(model, node)
        assert {*read, given} == {"uint16"}, node.name


def test_a_layer_that_is_not_narrow_stays_as_it_was(search: Search, plan: FullIntegerPlan) -> None:
    one = dataclasses.replace(plan, narrow=frozenset(["blocks.1.fc1"]))
    model = lower_full_integer(search.canonical, WIDE, one)
    gemms = {node.name for node in model.graph.node if node.op_type == "Gemm"}
    assert {*plan.linears} - gemms == {"blocks.1.fc1"}
    assert [node.name for node in model.graph.node if node.name.endswith(".product")] == [
        "blocks.1.fc1.product"
    ]


def test_what_is_lost_lies_between_sixteen_and_eight_bits(search: Search, plan: FullIntegerPlan) -> None:
    unseen = list(images(16, seed=9))
    exact = logits(lower(search.canonical, WIDE).SerializeToString(), unseen)

    def reached(form: ActivationType, used: FullIntegerPlan) -> float:
        model = lower_full_integer(search.canonical, form_of(form), used)
        return decibels(exact, logits(model.SerializeToString(), unseen))

    wide, narrow = (reached(ActivationType.UINT16, used) for used in (plan, all_narrow(plan)))
    assert wide > narrow > reached(ActivationType.UINT8, plan) + 1.0


def test_the_layers_that_lose_most_for_their_products_come_first(plan: FullIntegerPlan) -> None:
    assert {need.layer for need in plan.needs} == {*plan.linears, *plan.attentions}
    worth = [need.noise / need.macs for need in plan.needs]
    assert worth == sorted(worth, reverse=True)
    assert 0.8 < sum(need.macs for need in plan.needs) < 1.0  # all but the patch embedding


NEEDS = (Need("a", 0.1, 3.0), Need("b", 0.3, 5.0), Need("c", 0.0625, 0.5), Need("d", 0.5, 1.0))
OTHERS = 1.0 - sum(need.macs for need in NEEDS)  # read 16 bits in any case


@pytest.mark.parametrize(
    ("share", "narrow"),
    [
        (0.0, {"a", "b", "c", "d"}),
        (OTHERS / 2, {"a", "b", "c", "d"}),
        (OTHERS + 0.15, {"b", "c", "d"}),
        (OTHERS + 0.2, {"b", "d"}),  # b is too large, c still fits
        (OTHERS + 0.45, {"c", "d"}),
        (1.0, set()),
    ],
)
def test_sixteen_bits_go_where_they_are_needed_most_up_to_a_share(
    plan: FullIntegerPlan, share: float, narrow: set[str]
) -> None:
    assert dataclasses.replace(plan, needs=NEEDS).with_wide(share).narrow == narrow


def test_a_target_of_one_width_has_no_narrow_products(plan: FullIntegerPlan) -> None:
    mixed = load_target("qnn-htp")
    narrow = widths(plan, mixed).narrow
    assert narrow
    wide = sum(need.macs for need in plan.needs if need.layer not in narrow)
    others = 1.0 - sum(need.macs for need in plan.needs)
    assert others < wide + others <= mixed.wide_macs + 1e-9  # sums of shares in floating point
    eight = dataclasses.replace(mixed, form=dataclasses.replace(mixed.form, activations=ActivationType.UINT8))
    assert widths(plan, eight).narrow == frozenset()
    assert widths(plan, dataclasses.replace(mixed, wide_macs=1.0)).narrow == frozenset()


def test_ranges_per_token_are_no_narrow_form(search: Search, plan: FullIntegerPlan) -> None:
    name = "blocks.1.fc1"
    linears = {**plan.linears, name: dataclasses.replace(plan.linears[name], activation=RowRange())}
    broken = dataclasses.replace(plan, linears=linears, narrow=frozenset([name]))
    with pytest.raises(ValueError, match=r"blocks\.1\.fc1 has no range for all rows"):
        lower_full_integer(search.canonical, WIDE, broken)
    core = "blocks.1.attention"
    cores = {**plan.attentions, core: dataclasses.replace(plan.attentions[core], probability_scale=None)}
    broken = dataclasses.replace(plan, attentions=cores, narrow=frozenset([core]))
    with pytest.raises(ValueError, match=r"blocks\.1\.attention has no range for all rows"):
        lower_full_integer(search.canonical, WIDE, broken)


def test_the_columns_of_a_layer_hold_what_it_gives(plan: FullIntegerPlan) -> None:
    for name, (low, high) in plan.columns.items():
        assert low.shape == high.shape == plan.linears[name].weight_scale.shape
        assert (low <= high).all()
        whole = plan.ranges.get(name)
        if whole is not None:
            assert (np.float32(low.min()), np.float32(high.max())) == tuple(map(np.float32, whole))


def test_the_noise_that_is_told_is_that_of_the_file(search: Search, plan: FullIntegerPlan) -> None:
    """And not that of the model in which forms were chosen, where other operators are float."""
    target = load_target("qnn-htp")
    taken = for_target(search.first(), target)
    told = as_written(search, search.canonical, taken, target).recipe.probe_db
    made = lower_full_integer(search.canonical, WIDE, widths(plan, target))
    exact, found = (
        search.calibration.reference[0],
        logits(made.SerializeToString(), search.calibration.probed),
    )
    assert told == pytest.approx(decibels(exact, found), abs=0.01)
    assert told != taken.recipe.probe_db
    portable = load_target("cpu")
    assert as_written(search, search.canonical, taken, portable) is taken
