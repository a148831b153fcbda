"""Measures every workload through every variant of a phase, in rounds.

A variant is up only while it is measured, so none pays for another, and every second round goes
backwards, so that a drift does not favour one. Numbers only; report.py makes ratios of them.
"""
import sys

import machine


def measure(phase, clock, rounds, scale):
    phase.prepare()
    variants, workloads = phase.variants, phase.workloads
    samples = {(v.name, w.key): [] for v in variants for w in workloads}
    devices = {}
    for number in range(rounds):
        for variant in variants if number % 2 == 0 else reversed(variants):
            print(f"bench: {phase.name}, round {number + 1}, {variant.name}", file=sys.stderr)
            variant.up()
            devices[variant.name] = variant.device()
            for workload in workloads:
                sample = through(variant, workload, clock, scale)
                samples[variant.name, workload.key].append(sample)
            variant.down()
    netfilter = machine.netfilter()
    phase.finish()
    return {
        "name": phase.name,
        "order": [v.name for v in variants],
        "workloads": [{"key": w.key, "title": w.title, "unit": w.unit} for w in workloads],
        "netfilter": netfilter,
        "devices": devices,
        "samples": [
            {"variant": variant, "workload": workload, "rounds": [vars(s) for s in values]}
            for (variant, workload), values in samples.items()
        ],
    }


def through(variant, workload, clock, scale):
    """One sample, and the proof that it is this variant's."""
    before = variant.packets()
    sample = workload.run(variant, clock, scale)
    if before is not None:
        sample.counted = variant.packets() - before
        if sample.counted == 0:
            raise RuntimeError(f"{variant.name}: {workload.key} went another way")
    return sample
