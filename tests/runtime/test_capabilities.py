"""Which targets fit a machine, why the others do not, and which one `auto` takes."""

import dataclasses
from pathlib import Path

import pytest

from vit_edge.errors import ProviderError, TargetError
from vit_edge.runtime.capabilities import Capabilities, FindProvider, choose_target, fit_of, this_machine
from vit_edge.runtime.device.machine import shared_flags
from vit_edge.runtime.session.providers import find_provider
from vit_edge.spec import Packaging, ProviderSpec, Requirements, TargetSpec
from vit_edge.targets import list_targets, load_target

ALL = [load_target(name) for name in list_targets()]
NOTHING = Requirements((), (), (), ())


def machine(architecture: str, *flags: str, system: str = "Linux") -> Capabilities:
    return Capabilities(system, architecture, frozenset(flags))


def only(*names: str) -> FindProvider:
    """Looks providers up on a machine that has these."""

    def find(name: str, spec: ProviderSpec) -> None:
        if name not in names:
            raise ProviderError(f"{name} is not installed; {spec.install}")

    return find


CPU_ONLY = only("cpu")


@pytest.mark.parametrize(
    ("here", "providers", "expected"),
    [
        (machine("x86_64", "avx2", "avx512_vnni"), ["cpu"], "cpu-x86-vnni"),
        (machine("amd64", "avx2", "avx_vnni"), ["cpu"], "cpu-x86-vnni"),
        (machine("x86_64", "avx2", "avx512f"), ["cpu"], "cpu-x86-avx2"),
        (machine("x86_64", "sse4_2"), ["cpu"], "cpu"),
        (machine("x86_64"), ["cpu"], "cpu"),
        (machine("aarch64", "asimd"), ["cpu"], "cpu-arm64"),
        (machine("arm64", system="Darwin"), ["cpu", "coreml"], "cpu-arm64"),
        (machine("riscv64"), ["cpu"], "cpu"),
        (machine("aarch64", "asimddp"), ["cpu", "qnn"], "qnn-htp"),
        (machine("x86_64", "avx2"), ["cpu", "qnn"], "cpu-x86-avx2"),  # its wheel holds a simulator only
        (machine("x86_64", "avx2", "avx512_vnni"), ["cpu", "openvino"], "openvino"),
        (machine("x86_64", "avx2", "avx512_vnni"), ["cpu", "cuda", "tensorrt"], "cpu-x86-vnni"),
    ],
    ids=str,
)
def test_auto_takes_the_best_that_fits(here: Capabilities, providers: list[str], expected: str) -> None:
    target, reason = choose_target(ALL, here, only(*providers))
    assert target.name == expected
    assert reason.startswith(f"the best that fits {here.system} on {here.architecture}")


def test_auto_says_what_decided_and_what_it_passed_over() -> None:
    _, reason = choose_target(ALL, machine("x86_64", "avx2"), CPU_ONLY)
    assert "with avx2" in reason
    assert "cpu-x86-vnni passed over: no CPU flag avx512_vnni or avx_vnni" in reason
    assert "openvino passed over: openvino is not installed" in reason


def test_auto_takes_no_target_of_priority_zero() -> None:
    unwanted = [dataclasses.replace(target, priority=0) for target in ALL]
    with pytest.raises(TargetError, match="no target fits Linux on x86_64"):
        choose_target(unwanted, machine("x86_64"), CPU_ONLY)


def target_with(requires: Requirements = NOTHING, provider: ProviderSpec | None = None) -> TargetSpec:
    base = load_target("cpu")
    return dataclasses.replace(base, requires=requires, provider=provider or base.provider)


@pytest.mark.parametrize(
    ("requires", "here", "reason"),
    [
        (
            dataclasses.replace(NOTHING, systems=("Darwin",)),
            machine("arm64"),
            "for Darwin, and this is Linux",
        ),
        (
            dataclasses.replace(NOTHING, architectures=("aarch64", "arm64")),
            machine("x86_64"),
            "for aarch64 or arm64, and this is x86_64",
        ),
        (
            dataclasses.replace(NOTHING, flags_all=("avx2", "fma")),
            machine("x86_64", "avx2"),
            "no CPU flag fma",
        ),
        (
            dataclasses.replace(NOTHING, flags_any=("i8mm", "sve")),
            machine("aarch64", "asimd"),
            "no CPU flag i8mm or sve",
        ),
        (
            dataclasses.replace(NOTHING, flags_all=("avx2",)),
            machine("amd64", system="Windows"),
            "this system does not tell CPU flags; needed is avx2",
        ),
    ],
)
def test_a_target_that_does_not_fit_says_why(requires: Requirements, here: Capabilities, reason: str) -> None:
    assert fit_of(target_with(requires), here, CPU_ONLY).reasons == (reason,)


def test_a_target_that_asks_for_nothing_fits_every_machine() -> None:
    for here in (machine("riscv64"), machine("x86_64", system="Windows")):
        assert fit_of(target_with(), here, CPU_ONLY).available


def test_a_wheel_that_is_missing_is_named_with_its_command() -> None:
    absent = [fit_of(target, machine("x86_64", "avx2"), only()) for target in ALL]
    by_name = {fit.target.name: fit for fit in absent}
    assert "pip uninstall onnxruntime && pip install onnxruntime-gpu" in by_name["cuda"].reasons[0]
    assert "run: pip install onnxruntime-ep-openvino" in by_name["openvino"].reasons[0]
    assert "not with a wheel of onnxruntime" in by_name["wasm"].reasons[0]
    assert not any(fit.available for fit in absent)


def test_a_provider_of_an_extra_is_installed_by_it() -> None:
    assert load_target("qnn-htp").provider.install == "run: pip install 'vit-edge[qnn]'"


def test_a_plugin_whose_module_is_missing_or_broken_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = dataclasses.replace(
        load_target("cpu").provider,
        name="warp",
        packaging=Packaging.PLUGIN,
        package="warp-drive",
        module="no_such_warp_module",
    )
    with pytest.raises(ProviderError, match=r"'warp' is not installed .*run: pip install warp-drive"):
        find_provider("warp", plugin)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "silent_warp.py").write_text("")
    with pytest.raises(ProviderError, match="warp-drive says nothing about its provider"):
        find_provider("warp", dataclasses.replace(plugin, module="silent_warp"))
    lying = (
        "def get_ep_name(): return 'WarpExecutionProvider'\ndef get_library_path(): return '/no/such.so'\n"
    )
    (tmp_path / "lying_warp.py").write_text(lying)
    with pytest.raises(ProviderError, match="warp-drive cannot be loaded by onnxruntime"):
        find_provider("warp", dataclasses.replace(plugin, module="lying_warp"))


def test_this_machine_is_known_and_fits_the_portable_target() -> None:
    here = this_machine()
    assert here.architecture == here.architecture.lower() != ""
    assert fit_of(load_target("cpu"), here).available


def test_only_flags_that_all_cores_have_count() -> None:
    text = "processor : 0\nflags : avx2 fma\n\nprocessor : 1\nflags : avx2\n"
    assert shared_flags(text) == {"avx2"}
    assert shared_flags("Features\t: asimd asimddp\n") == {"asimd", "asimddp"}
    assert shared_flags("") == frozenset()
