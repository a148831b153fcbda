"""Makes medians, ratios with their intervals, and the report in Markdown of raw samples. Pure."""
import random
from statistics import median

PERCENTILES = ("p50", "p99", "p99.9", "max")
RESAMPLES = 2000


def complete(raw, order, ours):
    """What goes into the JSON: the raw samples and a row for each cell."""
    cells = {}
    for sample in raw["samples"]:
        key = sample["copies"], sample["share"], sample["way"]
        cells.setdefault(key, []).append(sample)
    keys = sorted(cells, key=lambda key: (key[0], key[1], order.index(key[2])))
    rows = [
        row(key, cells[key], cells[*key[:2], ours], raw["saturation"]) for key in keys
    ]
    rounds = 1 + max(sample["round"] for sample in raw["samples"])
    return {**raw, "ours": ours, "order": order, "rounds": rounds, "rows": rows}


def row(key, samples, of_ours, saturation):
    """Medians over the rounds of latencies; sums of what was counted."""
    copies, share, way = key
    latencies = {p: [s["result"]["latency_ms"][p] for s in samples] for p in PERCENTILES}
    base = {p: [s["result"]["latency_ms"][p] for s in of_ours] for p in PERCENTILES}
    return {
        "way": way,
        "copies": copies,
        "share": share,
        "rate": share * saturation,
        **{p: median(values) for p, values in latencies.items()},
        "rounds": latencies,
        "ratio": {p: ratio(latencies[p], base[p]) for p in PERCENTILES},
        **counted(samples),
    }


def ratio(values, base):
    """Of the medians, with the 95 % interval of a bootstrap over rounds, which stay paired."""
    chance = random.Random(1)
    rounds = range(len(values))
    ratios = []
    for _ in range(RESAMPLES):
        picked = chance.choices(rounds, k=len(values))
        ratios.append(median(values[i] for i in picked) / median(base[i] for i in picked))
    ratios.sort()
    return {
        "median": median(values) / median(base),
        "low": ratios[int(RESAMPLES * 0.025)],
        "high": ratios[int(RESAMPLES * 0.975) - 1],
    }


def counted(samples):
    """Of all rounds together, but for what is a rate or a time."""

    def total(*path):
        values = (follow(s["counted"], path) for s in samples)
        return sum(sum(v) if isinstance(v, list) else v for v in values)

    results = [s["result"] for s in samples]
    return {
        "done": sum(r["done"] for r in results),
        "lost": sum(r["lost"] for r in results),
        "rate_done": median(r["rate_done"] for r in results),
        "softnet_dropped": total("softnet", "dropped"),
        "softnet_squeezed": total("softnet", "squeezed"),
        "ksoftirqd_ms": total("ksoftirqd", "cpu_ms"),
        "ksoftirqd_wakeups": total("ksoftirqd", "wakeups"),
        "device_drops": total("device_drops"),
        "own_drops": sum(s["passed"].get("drops", 0) for s in samples),
        "net_rx_runs": total("net_rx_runs"),
        "timeouts": total("tcp", "TCPTimeouts"),
        "retransmitted": total("tcp", "RetransSegs"),
        "backlog_drops": total("tcp", "TCPBacklogDrop"),
        "client_timeouts": sum(s["tcp"]["TCPTimeouts"] for s in samples),
        "client_retransmitted": sum(s["tcp"]["RetransSegs"] for s in samples),
        "late_ms": max(r["late_ms"]["p99"] or 0 for r in results),
        "cpus": {
            who: median(s["cpus"][who] for s in samples) for who in ("emulator", "client", "others")
        },
    }


def follow(value, path):
    for key in path:
        value = value[key]
    return value


def report(result):
    lines = ["# Tail latency of stacked copies", "", *verdict(result), "", *head(result), ""]
    for copies in sorted({row["copies"] for row in result["rows"]}):
        for share in sorted({row["share"] for row in result["rows"] if row["copies"] == copies}):
            rows = [r for r in result["rows"] if (r["copies"], r["share"]) == (copies, share)]
            lines += section(rows, result["ours"])
    return "\n".join([*lines, *overload(result)]).rstrip() + "\n"


def head(result):
    about = result["about"]
    yield (
        f"Linux {about['kernel']}, {about['cpus']} CPUs of QEMU {about['qemu']} (multi-threaded TCG), "
        f"{about['oci_netkit']} with {about['rules']} rules. A copy is a server and {about['hogs']} busy "
        f"loops in a cgroup; the client outside has {about['connections']} connections to each."
    )
    yield ""
    yield (
        f"{result['rounds']} rounds of {about['seconds']:g} s a cell, every second one backwards. "
        "Latencies: medians over rounds in ms, from the scheduled time to the last byte; the ratio is to "
        f"{result['ours']}, in brackets its 95 % bootstrap interval over rounds. Counts: all rounds "
        "together. **Ratios are what this is for**: the milliseconds are an emulator's."
    )
    yield ""
    source = "measured first" if result["calibration"] else "as given"
    yield (
        f"Saturation of {result['slowest']} ({source}): {result['saturation']:.0f} requests/s and copy; "
        "the percentages are of that."
    )
    yield ""
    sysctls = ", ".join(f"{name.split('/')[-1]} {value}" for name, value in about["sysctls"].items())
    yield f"{sysctls}. Rules of netfilter: only netavark's, while it is up."
    yield ""
    for name, device in result["devices"].items():
        yield f"- {name}: " + ", ".join(f"{key} {value}" for key, value in device.items())


def verdict(result):
    """How much longer the slowest way takes than ours do, each at every rate."""
    most = max(row["copies"] for row in result["rows"])
    cells = {(row["way"], row["share"]): row for row in result["rows"] if row["copies"] == most}
    slowest = result["slowest"]
    for way in (way for way in result["order"] if way.startswith(result["ours"])):
        ratios = []
        for share in sorted({share for name, share in cells if name == slowest}):
            of_both = (cells[name, share]["rounds"]["p99"] for name in (slowest, way))
            ratios.append(f"**{interval(ratio(*of_both))}** at {share:.0%}")
        if ratios:
            yield f"p99 with {plural(most)}, {slowest} ÷ {way}: {', '.join(ratios)}."


def interval(r):
    return f"{r['median']:.2f} ({r['low']:.2f}–{r['high']:.2f})"


def plural(copies):
    return f"{copies} {'copy' if copies == 1 else 'copies'}"


def section(rows, ours):
    first = rows[0]
    yield f"## {plural(first['copies'])}, {first['rate']:.0f} requests/s each ({first['share']:.0%})"
    yield ""
    yield f"| | p50 | p99 | p99.9 | most | p99 ÷ {ours} | answers/s | lost |"
    yield "|--|--:|--:|--:|--:|--:|--:|--:|"
    for row in rows:
        cells = [f"{row[p]:.0f}" for p in PERCENTILES]
        cells += [interval(row["ratio"]["p99"]), f"{row['rate_done']:.0f}", f"{row['lost']}"]
        yield f"| {row['way']} | {' | '.join(cells)} |"
    yield ""
    yield (
        "| | squeezed | softnet drops | ksoftirqd ms | wake-ups | time-outs: guest, client "
        "| sent again | other drops | client late, p99 ms | CPUs: QEMU, client, others |"
    )
    yield "|--|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
    for row in rows:
        other = row["device_drops"] + row["own_drops"] + row["backlog_drops"]
        cpus = ", ".join(f"{value:.2f}" for value in row["cpus"].values())
        yield (
            f"| {row['way']} | {row['softnet_squeezed']} | {row['softnet_dropped']} "
            f"| {row['ksoftirqd_ms']:.0f} | {row['ksoftirqd_wakeups']} "
            f"| {row['timeouts']}, {row['client_timeouts']} "
            f"| {row['retransmitted']}, {row['client_retransmitted']} | {other} "
            f"| {row['late_ms']:.1f} | {cpus} |"
        )
    yield ""


def overload(result):
    if not result["overload"]:
        return
    first = result["overload"][0]
    rate = first["share"] * result["saturation"]
    yield f"## {plural(first['copies'])}, {rate:.0f} requests/s each, for a long time, once"
    yield ""
    yield "Where a way cannot keep up, its queue grows as long as this lasts: its numbers are as large as one likes."
    yield ""
    yield "| | s | p50 | p99 | p99.9 | answers/s | lost |"
    yield "|--|--:|--:|--:|--:|--:|--:|"
    for sample in result["overload"]:
        r = sample["result"]
        cells = [f"{r['latency_ms'][p]:.0f}" for p in ("p50", "p99", "p99.9")]
        yield (
            f"| {sample['way']} | {sample['elapsed']:.0f} | {' | '.join(cells)} "
            f"| {r['rate_done']:.0f} | {r['lost']} |"
        )
