"""``python -m tests.faults [--markdown] [--scale 1] [NAME ...]``: inject faults and print what became of them."""

from __future__ import annotations

import argparse
import logging
import sys
import time
import warnings

import torch

from tests.faults import faults


def main() -> int:
    """Inject; 1 if anything was not survived."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--markdown", action="store_true", help="print the table alone, in Markdown")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies every count")
    parser.add_argument("names", nargs="*", help="only faults whose names hold one of these")
    chosen = parser.parse_args()
    faults.SCALE = chosen.scale
    torch.set_num_threads(1)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    from tests.faults import codes, files, training, two_processes  # noqa: F401  they list their faults

    outcomes = []
    for name, count, inject in faults.ALL:
        if chosen.names and not any(part in name for part in chosen.names):
            continue
        start = time.monotonic()
        outcome = faults.inject_all(name, count, inject)
        outcomes.append(outcome)
        seconds = time.monotonic() - start
        print(f"{outcome.survived}/{outcome.injected}  {name}  ({seconds:.0f} s)", file=sys.stderr, flush=True)
        for note in outcome.notes:
            print(f"    {note}", file=sys.stderr, flush=True)
    print(table(outcomes, chosen.markdown))
    return int(any(outcome.survived < outcome.injected for outcome in outcomes))


def table(outcomes: list[faults.Outcome], markdown: bool) -> str:
    """Injected, survived and silently wrong, by fault."""
    total = faults.Outcome(
        "all", *(sum(getattr(outcome, name) for outcome in outcomes) for name in ("injected", "survived", "wrong"))
    )
    rows = [("Fault", "Injected", "Survived", "Silently wrong")]
    rows += [(o.name, str(o.injected), str(o.survived), str(o.wrong)) for o in [*outcomes, total]]
    if markdown:
        lines = [f"| {' | '.join(row)} |" for row in rows]
        return "\n".join([lines[0], "|---|---:|---:|---:|", *lines[1:]])
    width = max(len(row[0]) for row in rows)
    return "\n".join(f"{row[0]:<{width}}  {row[1]:>8}  {row[2]:>8}  {row[3]:>14}" for row in rows)


if __name__ == "__main__":
    raise SystemExit(main())
