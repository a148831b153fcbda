#!/usr/bin/python3
"""Compares what packets cost with what they cost when the baseline was written (tests/bench/costs).

costs.py --check|--bless|--show BASELINE RESULT RELEASE; status 1 if a path is dearer, or none of the
baseline's.
"""
import json
import sys
from pathlib import Path

# How much dearer a path may become; under another kernel than the baseline's, whose own helpers weigh
# otherwise (6.12 and 7.3 are 3 % apart), twice as much.
MARGIN = 0.03


def shares(result):
    """Each path's instructions as a share of the reference's, both without those of a run of nothing."""
    empty = result["empty"]
    reference = result["reference"] - empty
    return {name: (count - empty) / reference for name, count in result["paths"].items()}


def main(mode, baseline, result, release):
    result = json.loads(Path(result).read_text())
    now = shares(result)
    if mode == "--bless":
        kept = {"kernel": release, "shares": {name: round(s, 4) for name, s in sorted(now.items())}}
        Path(baseline).write_text(json.dumps(kept, indent=2) + "\n")
    kept = json.loads(Path(baseline).read_text())
    print(f"costs: Linux {release}, the baseline's was {kept['kernel']}")
    print(f"costs: the reference takes {result['reference'] - result['empty']} instructions, a run itself {result['empty']}")
    print(f"{'path':36} {'instructions':>12} {'share':>8} {'baseline':>9} {'change':>8}")
    margin = MARGIN if release == kept["kernel"] else 2 * MARGIN
    faults = []
    for name, share in sorted(now.items()):
        before = kept["shares"].get(name)
        change = f"{share / before - 1:+.1%}" if before else "new"
        print(f"{name:36} {result['paths'][name] - result['empty']:12} {share:8.4f} {before or 0:9.4f} {change:>8}")
        if not before:
            faults.append(f"{name} has no baseline")
        elif share > before * (1 + margin):
            faults.append(f"{name} is {change} dearer")
    faults += [f"{name} is not measured any more" for name in kept["shares"].keys() - now.keys()]
    if mode == "--show":
        return 0
    for fault in faults:
        print(f"costs: {fault}: mend it, or tests/bench/costs --bless", file=sys.stderr)
    print(f"costs: {len(now)} paths, {len(faults)} faults (margin {margin:.0%})")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
