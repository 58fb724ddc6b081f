"""`targets`: the device classes that models can be made for, and which of them fit this machine."""

import argparse
import dataclasses
import enum
import json
from typing import Any

from vit_edge.cli.console import pairs, table
from vit_edge.cli.parser import Commands
from vit_edge.errors import VitEdgeError
from vit_edge.runtime.capabilities import Fit, choose_target, fit_of, this_machine
from vit_edge.spec import QuantizedOperators, TargetSpec
from vit_edge.targets import find_target, list_targets, load_target

AUTO = "auto"

_OPERATORS = {
    QuantizedOperators.NONE: "none",
    QuantizedOperators.LINEAR: "linear layers and the patch embedding",
    QuantizedOperators.PRODUCTS: "linear layers, the patch embedding and both products of attention",
    QuantizedOperators.ALL: "all",
}


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "targets", help="the device classes that models can be made for, and which fit this machine"
    )
    parser.add_argument(
        "names", metavar="NAME", nargs="*", help="show these in full; also one's own .toml files"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, with everything that is known")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """`vit-edge targets`."""
    targets = [find_target(name) for name in args.names or list_targets()]
    fits = [fit_of(target, this_machine()) for target in targets]
    if args.json:
        print(json.dumps([to_json(fit) for fit in fits], indent=1))
    elif args.names:
        print("\n\n".join(map(details, fits)))
    else:
        print(overview(fits))
    return 0


def best_here() -> tuple[TargetSpec, str]:
    """The target that fits this machine best, and why it was taken.

    Raises:
        TargetError: as in `choose_target`.
    """
    return choose_target(map(load_target, list_targets()), this_machine())


def target_named(name: str) -> TargetSpec:
    """The target of a `--target` argument; `auto` looks at this machine and says what it takes.

    Raises:
        TargetError: as in `find_target` and `choose_target`.
    """
    if name != AUTO:
        return find_target(name)
    target, reason = best_here()
    print(f"target {target.name}: {reason}")
    return target


def overview(fits: list[Fit]) -> str:
    """One row per target, and below why each other one is not to be had here."""
    rows = [["target", "for", "INT8", "elsewhere", "checked", "here"]]
    for fit in fits:
        target = fit.target
        rows.append(
            [
                target.name,
                target.title,
                _integer_type(target),
                target.form.float_type.value,
                ", ".join(dict.fromkeys(entry.state.value for entry in target.verification)),
                "yes" if fit.available else "no",
            ]
        )
    lines = [table(rows)]
    absent = [(fit.target.name, "; ".join(fit.reasons)) for fit in fits if not fit.available]
    if absent:
        lines += ["", "Not here, because:", *(f"  {line}" for line in pairs(absent).splitlines())]
    lines += ["", f"--target auto takes {_auto()}"]
    return "\n".join(lines)


def details(fit: Fit) -> str:
    """Everything about one target that a person may want to know."""
    target = fit.target
    rows = [
        ("input", f"{target.form.input.value}, {target.form.sizes.value} batch"),
        ("integer", _OPERATORS[target.quantized_operators]),
        ("activations", _integer_type(target)),
        ("weights", f"{target.weight_type}, {target.weight_bits} bits, {_scales(target)}"),
        ("elsewhere", target.form.float_type.value),
        ("provider", target.provider.name),
        ("needs", target.provider.package),
        ("here", "yes" if fit.available else f"no: {'; '.join(fit.reasons)}"),
        *(("session", f"{key} = {value}") for key, value in target.session_options),
        *(("option", f"{key} = {value}") for key, value in target.provider.options),
        *((entry.state.value, _evidence(entry.where, entry.what)) for entry in target.verification),
        *(("predicted", str(entry)) for entry in target.predicted),
    ]
    if target.quantized_operators is QuantizedOperators.NONE:
        rows = [row for row in rows if row[0] not in ("activations", "weights")]
    body = "\n".join(f"  {line}" for line in pairs(rows).splitlines())
    return f"{target.name} ({target.title}): {target.description}\n{body}"


def to_json(fit: Fit) -> dict[str, Any]:
    """The target's fields as its file has them, and whether it fits this machine."""
    fields = dataclasses.asdict(fit.target)
    tables = {
        "session_options": dict(fit.target.session_options),
        "provider": fields["provider"] | {"options": dict(fit.target.provider.options)},
    }
    return {
        **_plain(fields | tables),
        "available": fit.available,
        "reasons": list(fit.reasons),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def _auto() -> str:
    try:
        return best_here()[0].name
    except VitEdgeError as error:
        return f"nothing: {error}"


def _integer_type(target: TargetSpec) -> str:
    if target.quantized_operators is QuantizedOperators.NONE:
        return "-"
    return f"{target.form.activations.value}{', symmetric' if target.form.symmetric else ''}"


def _scales(target: TargetSpec) -> str:
    scales = "one scale per output channel" if target.per_channel else "one scale per layer"
    return f"{scales}, reduced range where 8 bits could saturate" if target.saturating else scales


def _evidence(where: str | None, what: str) -> str:
    return f"{where}: {what}" if where else what
