#!/usr/bin/python3
"""What where.c counted, as tables of functions: `where.py DIR...`, each with samples.json and the
symbols that where_guest left there, and plugin.so.log."""
import bisect
import collections
import json
import sys
from pathlib import Path

USER_END = 1 << 47
USER_SPACE = "user space"
MOST = 40  # functions in a table
LEAST = 2  # instructions between variants, for a function to be worth a line


def symbols(file):
    """Addresses in their order, and the names there."""
    found = []
    for line in file.read_text().splitlines():
        address, kind, name = line.split(None, 2)
        if kind in "tTwW":
            found.append((int(address, 16), readable(name)))
    found.sort()
    return [address for address, _ in found], [name for _, name in found]


def readable(name):
    """bpf_prog_TAG_NAME [bpf]: a program's own name says enough."""
    name = name.split()[0]
    if name.startswith("bpf_prog_") and name.count("_") > 2:
        return name.split("_", 3)[3] + " (BPF)"
    return name


def spans(log):
    """Of each sample: its spans, each of (address, instructions that ran)."""
    sample, span = [], []
    for line in log:
        words = line.split()
        if words == ["end"]:
            sample.append(span)
            span = []
        elif words == ["sample"]:
            yield sample
            sample = []
        else:
            span.append((int(words[0], 16), int(words[1]) * int(words[2])))


def by_function(span, where, has_user):
    addresses, names = where
    counted = collections.Counter()
    for address, instructions in span:
        if address >= USER_END:
            counted[names[bisect.bisect_right(addresses, address) - 1]] += instructions
        elif has_user:
            counted[USER_SPACE] += instructions
    return counted


def of_unit(sample, its_spans, directory):
    """Instructions of each function for one unit. Where a workload ran twice, the first run is its
    start alone."""
    if not its_spans or not its_spans[-1]:
        raise RuntimeError(f"{sample['title']}, {sample['variant']}: the plugin counted nothing")
    where, has_user = symbols(directory / sample["symbols"]), sample["has_user"]
    counted = by_function(its_spans[-1], where, has_user)
    for early in its_spans[:-1]:
        counted.subtract(by_function(early, where, has_user))
    return {name: count / sample["units"] for name, count in counted.items()}


def table(variants):
    """variants: name -> instructions by function."""
    first, *others = variants
    names = {name for counted in variants.values() for name in counted}

    def spread(name):
        values = [counted.get(name, 0) for counted in variants.values()]
        return max(values) - min(values)

    most = [name for name in sorted(names, key=lambda n: (-spread(n), n)) if spread(name) >= LEAST]
    yield f"| function | {' | '.join(variants)} |"
    yield "|--|" + "--|" * len(variants)
    totals = {name: sum(counted.values()) for name, counted in variants.items()}
    yield "| **all** | " + " | ".join(f"{t:,.0f}" for t in totals.values()) + " |"
    more = [f"{totals[name] - totals[first]:+,.0f}" for name in others]
    yield "| *more than the first* |  | " + " | ".join(more) + " |"
    for name in most[:MOST]:
        cells = " | ".join(f"{counted.get(name, 0):,.0f}" for counted in variants.values())
        yield f"| `{name}` | {cells} |"


def tables(directory, result):
    """By title: the variants' instructions by function."""
    with (directory / "plugin.so.log").open() as log:
        counted = list(spans(log))
    found = collections.defaultdict(dict)
    for sample, its_spans in zip(result["samples"], counted, strict=True):
        found[sample["title"]][sample["variant"]] = of_unit(sample, its_spans, directory)
    return found


def report(directories):
    results = [json.loads((directory / "samples.json").read_text()) for directory in directories]
    about = results[0]["about"]
    yield "# Where the instructions go"
    yield ""
    yield f"Linux {about['kernel']}; QEMU {about['qemu']}, -icount {about['icount']};"
    yield f"{about['oci_netkit']}, {about['rules']} rules. Instructions of the kernel and of BPF programs"
    yield "for a packet, MiB, transaction or start, by function, those first that differ most between the"
    yield "columns. Below 0: the start of a workload alone took more of it than start and work."
    for directory, result in zip(directories, results):
        for title, variants in tables(directory, result).items():
            yield ""
            yield f"## {title}"
            yield ""
            yield from table(variants)


if __name__ == "__main__":
    print("\n".join(report([Path(directory) for directory in sys.argv[1:]])))
