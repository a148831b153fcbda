#!/usr/bin/python3
"""Makes medians, spreads and ratios of the raw numbers, and text for people: `report.py DIRECTORY` reads
what the benchmark left there and writes README.md beside it. Pure but for that."""
import json
import sys
from pathlib import Path
from statistics import median

import goals


def spread(values):
    """Half of the range, as a share of the median."""
    return (max(values) - min(values)) / 2 / median(values)


def rows_of(phase):
    """One row per variant and workload; the ratio is to this phase's first variant."""
    units = {w["key"]: w["unit"] for w in phase["workloads"]}
    rows = []
    for samples in phase["samples"]:
        rounds = samples["rounds"]
        rates = [s["rate"] for s in rounds]
        rows.append(
            {
                "phase": phase["name"],
                "variant": samples["variant"],
                "workload": samples["workload"],
                "unit": units[samples["workload"]],
                "median": median(rates),
                "spread": spread(rates),
                "rounds": rates,
                "ns_per_unit": median(s["ns_per_unit"] for s in rounds),
                "lost": median(s["lost"] for s in rounds),
                "waited": median(s["waited"] for s in rounds),
            }
        )
    first = {r["workload"]: r["median"] for r in rows if r["variant"] == phase["order"][0]}
    for row in rows:
        row["ratio"] = row["median"] / first[row["workload"]]
    return rows


def setup_rows(times):
    """One row per tool and action; the ratio is ours to theirs."""
    rows = []
    for tool in times["tools"]:
        for action in ("first_add", "add", "delete"):
            values = tool[action]
            rows.append(
                {
                    "tool": tool["tool"],
                    "action": action,
                    "unit": "ms",
                    "median": median(values),
                    "spread": spread(values),
                    "rounds": values,
                }
            )
    ours = {r["action"]: r["median"] for r in rows if r["tool"] == "oci-netkit"}
    for row in rows:
        row["ratio_of_ours"] = ours[row["action"]] / row["median"]
    return rows


def with_rows(times):
    return {**times, "rows": setup_rows(times)}


def complete(raw):
    """What goes into the JSON: the raw numbers and what follows from them."""
    result = {**raw, "rows": [row for phase in raw["phases"] for row in rows_of(phase)]}
    if "setup" in raw:
        result["setup_rows"] = setup_rows(raw["setup"])
    return result


def table(head, lines):
    yield f"| {' | '.join(head)} |"
    yield "|--" * len(head) + "|"
    for line in lines:
        yield f"| {' | '.join(line)} |"
    yield ""


def guest(facts):
    icount = f"-icount {facts['icount']}" if facts["icount"] else "no -icount: wall-clock time"
    return f"Linux {facts['kernel']}; QEMU {facts['qemu']}, {icount}, {facts['cpus']} CPU;"


def about(facts):
    yield guest(facts)
    yield f"{facts['oci_netkit']}, {facts['rules']} rules; rounds: {facts['rounds']}, every second one"
    yield "backwards. Median, ± half of the range."
    yield ""


def traffic(result):
    yield "## Traffic"
    yield ""
    yield from about(result["about"])
    yield "The first column is a rate per second in which the CPU worked, the others are ratios to it."
    yield ""
    for phase in result["phases"]:
        yield f"### {phase['name'].capitalize()}"
        yield ""
        if phase.get("about", result["about"]) != result["about"]:
            yield "Measured by itself:"
            yield from about(phase["about"])
        yield from rates(phase, result["rows"])
        yield "Instructions (without -icount: ns) for a packet, MiB or transaction:"
        yield ""
        yield from costs(phase, result["rows"])
        yield from conditions(phase)
        for row in result["rows"]:
            if row["phase"] == phase["name"] and row["lost"] > 0:
                yield f"Lost: {row['variant']}, {row['workload']}: {row['lost']:.2%}."
                yield ""


def rates(phase, rows):
    def cell(row):
        if row["variant"] == phase["order"][0]:
            return f"{row['median']:,.1f} ±{row['spread']:.1%}"
        return f"{row['ratio']:.3f} ±{row['spread']:.1%}"

    yield from by_workload(phase, rows, cell, lambda w: f"{w['title']}, {w['unit']}")


def costs(phase, rows):
    def cell(row):
        return f"{row['ns_per_unit']:,.0f}"

    yield from by_workload(phase, rows, cell, lambda w: w["title"])


def by_workload(phase, rows, cell, title):
    lines = []
    for workload in phase["workloads"]:
        found = [find(rows, phase["name"], variant, workload["key"]) for variant in phase["order"]]
        lines.append([title(workload), *map(cell, found)])
    yield from table(["", *phase["order"]], lines)


def conditions(phase):
    """Once, where they are equal."""
    facts = {
        name: ", ".join(f"{key} {value}" for key, value in device.items())
        for name, device in phase["devices"].items()
    }
    for text in dict.fromkeys(facts.values()):
        names = [name for name, other in facts.items() if other == text]
        yield f"- {'; '.join(names)}: {text}"
    yield f"- netfilter: {' '.join(phase['netfilter']['modules']) or 'not loaded'}"
    yield ""


def find(rows, phase, variant, workload):
    return next(
        r
        for r in rows
        if (r["phase"], r["variant"], r["workload"]) == (phase, variant, workload)
    )


def setup(times, rows):
    lines = []
    for tool in times["order"]:
        line = [tool]
        for action in ("first_add", "add", "delete"):
            row = next(r for r in rows if (r["tool"], r["action"]) == (tool, action))
            line += [f"{row['median']:.1f} ±{row['spread']:.1%}", f"{row['ratio_of_ours']:.2f}"]
        lines.append(line)
    heads = [head for name in ("first", "next", "removal") for head in (f"{name}, ms", "ours ÷")]
    yield from table(["", *heads], lines)
    spawn = median(times["spawn_ms"])
    rounds = len(times["spawn_ms"])
    yield f"{rounds} rounds; each has {spawn:.1f} ms in it to start a program and wait for it."
    yield ""


def hook(result):
    facts = result["about"]
    yield "## The hook's time"
    yield ""
    yield guest(facts)
    yield f"{facts['oci_netkit']}; {facts['rounds']} rounds, medians. `make bench-hook`."
    yield ""
    yield from setup(result["beside"], result["beside"]["rows"])
    for stage, times in result["parts"].items():
        yield f"`hook {stage}`, {times['whole']:.1f} ms as its caller sees it:"
        yield ""
        yield from table(
            ["part", "ms"],
            [[name, f"{ms:.2f}"] for name, ms in times["parts"].items() if ms >= 0.005],
        )
    yield "Containers that stay; memory is what the kernel has for itself, per container:"
    yield ""
    times = ["first, ms", "last, ms", "last ÷ first", "removal, ms", "one when they are gone, ms"]
    yield from table(
        ["", "count", *times, "namespace, KiB", "connected, KiB"],
        [
            [
                tool,
                f"{found['containers']:,}",
                *(f"{found[key]:.1f}" for key in ("first_ms", "last_ms")),
                f"{found['last_to_first']:.2f}",
                f"{found['removal_ms']:.1f}",
                f"{found['afterwards_ms']:.1f}" if "afterwards_ms" in found else "",
                *(f"{found[key]:.0f}" for key in ("namespace_kib", "connected_kib")),
            ]
            for tool, found in result["tools"].items()
        ],
    )
    yield f"Tables of a container of ours at default limits: {result['tables_mib']:.2f} MiB."
    yield ""
    yield "Several that start at once, ms until the last is connected:"
    yield ""
    counts = [run["containers"] for run in next(iter(result["at_once"].values()))]
    yield from table(
        ["", *map(str, counts)],
        [
            [tool, *(f"{run['ms']:.1f}" + " (failed)" * bool(run["failed"]) for run in runs)]
            for tool, runs in result["at_once"].items()
        ],
    )


def passes(result):
    yield "## Softirq passes"
    yield ""
    yield from about(result["about"])
    yield "Per packet: how often one was put into a CPU's backlog (tracepoint net:netif_rx), from where"
    yield "another softirq takes it; runs of softirqs, which take several packets at once; what the"
    yield "backlog dropped and how often it ran out of time (softnet_stat)."
    yield ""
    heads = ["", "netif_rx", "NET_RX", "NET_TX", "dropped", "time_squeeze"]
    for workload in result["workloads"]:
        yield f"{workload['title']}:"
        yield ""
        yield from table(
            heads,
            [
                [row["variant"], *(f"{row[key]['median']:.3f}" for key in heads[1:])]
                for row in result["rows"]
                if row["workload"] == workload["key"]
            ],
        )


PARTS = {"traffic": traffic, "passes": passes, "hook": hook}


def text(results):
    """`results`: by name of the file without .json."""
    yield "# What the benchmark found"
    yield ""
    yield from goals.section(results)
    for name, part in PARTS.items():
        if name in results:
            yield from part(results[name])
    if "setup" in results.get("traffic", ()):
        yield "## Set-up"
        yield ""
        yield from setup(results["traffic"]["setup"], results["traffic"]["setup_rows"])


def load(directory):
    return {path.stem: json.loads(path.read_text()) for path in sorted(directory.glob("*.json"))}


def main(directory):
    report = "\n".join(text(load(directory)))
    (directory / "README.md").write_text(report)
    print(report)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
