"""Writes the tables of docs/peers.md, and its charts, from the results.

python -m tools.peers.page
"""

import re
import sys
from pathlib import Path
from typing import Any

from tools.peers.charts import bars, scatter
from tools.peers.record import read
from tools.peers.table import environments, markdown
from tools.written_page import DOCS, remade, write_images
from vit_edge.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "models" / "results" / "peers_vit_tiny.json"
PAGE = DOCS / "peers.md"
BEGIN = "<!-- python -m tools.peers.page writes what follows -->"


def main() -> int:
    try:
        results = read(RESULTS)
    except UsageError as error:
        print(f"peers: {error}", file=sys.stderr)
        return 2
    write_images(drawn(results))
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), results), encoding="utf-8")
    return 0


def page(text: str, results: dict[str, Any]) -> str:
    """The page with its part between the two marks made anew.

    Raises:
        ValueError: it does not have both marks once.
    """
    return remade(text, BEGIN, [_section(kind, result) for kind, result in results.items()])


def drawn(results: dict[str, Any]) -> dict[str, str]:
    """File name -> SVG, two for each kind of CPU."""
    return {
        f"peers-{kind.lower()}-{name}.svg": draw(result)
        for kind, result in results.items()
        for name, draw in (("scatter", scatter), ("bars", bars))
    }


def _section(kind: str, result: dict[str, Any]) -> str:
    machine, latency = result["machine"], result["latency"]
    cpu = f"{machine['cpu']} ({', '.join(machine['flags'])}), {machine['system']}"
    title = re.sub(r"^other$", "Other CPUs", kind)
    return "\n".join(
        [
            f"\n## With {title}",
            f"{machine['cores']} cores of an {cpu}; "
            f"{result['calibration']['images']} calibration images, {result['evaluation']['images']} others; "
            f"a quantizer is ended after {result['limit_s']} s of the processor; "
            f"latency is of one image on one thread, the median ratio of {latency['rounds']} rounds in turn.",
            "",
            f"![Classes changed, against latency](images/peers-{kind.lower()}-scatter.svg)",
            "",
            markdown(result),
            "",
            f"![Latency against float](images/peers-{kind.lower()}-bars.svg)",
            "",
            environments(result),
            "",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
