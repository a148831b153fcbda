"""What the project wants to reach (goals.json), beside what was found. Pure but for reading that file.

A goal's value comes from one place: `row`, a phase, variant and workload, as a ratio to the variant `to`;
`setup`, ours to a tool's action, of the hook's times where there are some; `many`, ours to a tool's time
with many containers; `passes`, the enqueues per packet of a variant and workload, less the host's; `tail`,
the p99 of two ways with the most copies; or `value`, a file of results and the keys that lead into it.
"""
import json
from pathlib import Path

FILE = Path(__file__).with_name("goals.json")


def value(goal, results):
    """None where this was not measured."""
    try:
        if "row" in goal:
            phase, variant, workload = goal["row"]
            return rate(results, phase, variant, workload) / rate(
                results, phase, goal["to"], workload
            )
        if "setup" in goal:
            tool, action = goal["setup"]
            # `make bench-hook` measures the same, and more of it.
            measured = results.get("hook")
            rows = measured["beside"]["rows"] if measured else results["traffic"]["setup_rows"]
            return only(rows, tool=tool, action=action)["ratio_of_ours"]
        if "many" in goal:
            tool, key = goal["many"]
            tools = results["hook"]["tools"]
            return tools["oci-netkit"][key] / tools[tool][key]
        if "passes" in goal:
            variant, workload = goal["passes"]
            ours, hosts = (
                only(results["passes"]["rows"], variant=name, workload=workload)["netif_rx"]
                for name in (variant, "host")
            )
            return ours["median"] - hosts["median"]
        if "tail" in goal:
            return tail(results["tail"]["rows"], *goal["tail"])
        found = results
        for key in goal["value"]:
            found = found[key]
        return found
    except KeyError:
        return None


def rate(results, phase, variant, workload):
    rows = results["traffic"]["rows"]
    return only(rows, phase=phase, variant=variant, workload=workload)["median"]


def tail(rows, theirs, ours):
    """Their p99 to ours, of the rate at which that is largest."""
    most = max(row["copies"] for row in rows)
    shares = {row["share"] for row in rows}
    cells = {(r["way"], r["share"]): r["p99"] for r in rows if r["copies"] == most}
    return max(cells[theirs, share] / cells[ours, share] for share in shares if (ours, share) in cells)


def only(rows, **wanted):
    for row in rows:
        if all(row[key] == value for key, value in wanted.items()):
            return row
    raise KeyError(wanted)


def verdict(goal, found):
    if found is None:
        return "not measured"
    # As far as the goal is told.
    found = round(found, 3)
    high = "at_least" in goal
    reached = [found >= goal[key] if high else found <= goal[key] for key in bounds(goal)]
    return ["missed", "reached", "stretch reached"][sum(reached)]


def bounds(goal):
    return [key for key in ("at_least", "at_most", "stretch") if key in goal]


def section(results):
    yield "## Goals"
    yield ""
    yield "| what | found | goal | stretch | | command |"
    yield "|--|--|--|--|--|--|"
    for goal in json.loads(FILE.read_text()):
        found = value(goal, results)
        limit = f"≥ {goal['at_least']}" if "at_least" in goal else f"≤ {goal['at_most']}"
        told = "" if found is None else f"{found:.3f}"
        command = goal.get("command", "make bench")
        stretch = goal.get("stretch", "")
        yield f"| {goal['what']} | {told} | {limit} | {stretch} | {verdict(goal, found)} | `{command}` |"
    yield ""
