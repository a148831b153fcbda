"""Makes medians, spreads and ratios of the raw numbers, and a table for people. Pure."""
from statistics import median


def spread(values):
    """Half of the range, as a share of the median."""
    return (max(values) - min(values)) / 2 / median(values)


def rows_of(phase, workloads):
    """One row per variant and workload; the ratio is to this phase's own host."""
    rows = []
    for samples in phase["samples"]:
        rounds = samples["rounds"]
        rates = [s["rate"] for s in rounds]
        rows.append(
            {
                "phase": phase["name"],
                "variant": samples["variant"],
                "workload": samples["workload"],
                "unit": workloads[samples["workload"]].unit,
                "median": median(rates),
                "spread": spread(rates),
                "rounds": rates,
                "ns_per_unit": median(s["ns_per_unit"] for s in rounds),
                "lost": median(s["lost"] for s in rounds),
                "waited": median(s["waited"] for s in rounds),
            }
        )
    hosts = {r["workload"]: r["median"] for r in rows if r["variant"] == "host"}
    for row in rows:
        row["ratio_to_host"] = row["median"] / hosts[row["workload"]]
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


def complete(raw, workloads):
    """What goes into the JSON: the raw numbers and what follows from them."""
    result = {**raw, "rows": [r for phase in raw["phases"] for r in rows_of(phase, workloads)]}
    if "setup" in raw:
        result["setup_rows"] = setup_rows(raw["setup"])
    return result


def table(result, workloads):
    return "\n".join([*head(result), *traffic(result, workloads), *setup(result)])


def head(result):
    about = result["about"]
    icount = f"-icount {about['icount']}" if about["icount"] else "no -icount: wall-clock time"
    yield f"Linux {about['kernel']}; QEMU {about['qemu']}, {icount}, {about['cpus']} CPU"
    yield f"{about['oci_netkit']}, {about['rules']} rules"
    for phase in result["phases"]:
        yield f"{phase['name']}: {', '.join(phase['order'])}; every second round backwards"
        for name, device in phase["devices"].items():
            facts = ", ".join(f"{key} {value}" for key, value in device.items())
            yield f"  {name}: {facts}"
        yield f"  netfilter: {' '.join(phase['netfilter']['modules']) or 'not loaded'}"
    yield f"{about['rounds']} rounds; median, ± half of the range; rates per second of CPU time"


def traffic(result, workloads):
    for phase in result["phases"]:
        yield ""
        columns = [workloads[key] for key in phase["workloads"]]
        titles = "".join(f"{w.title + ', ' + w.unit:^27}" for w in columns)
        yield f"{phase['name']:<22}{titles}"
        yield " " * 22 + "".join(f"{'rate':>9}{'±':>7}{'÷ host':>8}   " for _ in columns)
        for variant in phase["order"]:
            line = f"{variant:<22}"
            for workload in columns:
                row = find(result["rows"], phase["name"], variant, workload.key)
                line += f"{row['median']:9.1f}{row['spread']:7.1%}{row['ratio_to_host']:8.3f}   "
            yield line.rstrip()
    yield ""
    yield "ns (with -icount: instructions) per packet or MiB; share of the time waited; lost"
    for row in result["rows"]:
        yield (
            f"{row['phase']:<22}{row['variant']:<22}{row['workload']:<22}"
            f"{row['ns_per_unit']:12.0f}{row['waited']:9.1%}{row['lost']:9.2%}"
        )


def find(rows, phase, variant, workload):
    return next(
        r
        for r in rows
        if (r["phase"], r["variant"], r["workload"]) == (phase, variant, workload)
    )


def setup(result):
    if "setup" not in result:
        return
    yield ""
    yield f"{'set-up, ms':<22}{'first':>12}{'ours ÷':>8}{'next':>12}{'±':>7}{'ours ÷':>8}" + (
        f"{'removal':>12}{'±':>7}{'ours ÷':>8}"
    )
    for tool in result["setup"]["order"]:
        first, add, delete = (
            next(r for r in result["setup_rows"] if (r["tool"], r["action"]) == (tool, action))
            for action in ("first_add", "add", "delete")
        )
        line = f"{tool:<22}{first['median']:12.1f}{first['ratio_of_ours']:8.2f}"
        for row in (add, delete):
            line += f"{row['median']:12.1f}{row['spread']:7.1%}{row['ratio_of_ours']:8.2f}"
        yield line
    spawn = median(result["setup"]["spawn_ms"])
    rounds = len(result["setup"]["spawn_ms"])
    yield f"{rounds} rounds; each has {spawn:.1f} ms in it to start a program and wait for it"
