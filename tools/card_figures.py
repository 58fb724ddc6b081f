"""Takes what transformers.js was measured to answer into the card of bundles to come.

python -m tools.check_package BUNDLE --images DIR --home transformers.js -o RECORD.json
python -m tools.card_figures RECORD.json
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from vit_edge.host.bundling.transformers_js import FIGURES, Closeness, TransformersJs, to_text

PLACE = Path(__file__).resolve().parents[1] / "vit_edge" / "host" / "bundling" / FIGURES
HOME = "transformers.js"


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="card_figures", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("record", type=Path, metavar="RECORD.json", help="of tools.check_package")
    parser.add_argument("-o", "--output", type=Path, default=PLACE, metavar="FILE")
    given = parser.parse_args(words)
    try:
        figures = of_record(json.loads(given.record.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"card_figures: {given.record} holds no run of {HOME} ({error})", file=sys.stderr)
        return 2
    given.output.write_text(to_text(figures), encoding="utf-8")
    print(figures.sentence)
    return 0


def of_record(record: dict[str, Any]) -> TransformersJs:
    """The figures of a record.

    Raises:
        KeyError, ValueError: it is no record of a run of transformers.js.
    """
    home = record["homes"][HOME]
    found = {
        file: Closeness(int(home[file]["same_label"]), float(home[file]["largest_probability_difference"]))
        for file in ("float", "int8")
    }
    version = str(home["version"]).partition(",")[0]
    return TransformersJs(version, str(record["model"]["name"]), int(record["images"]["count"]), **found)


if __name__ == "__main__":
    sys.exit(main())
