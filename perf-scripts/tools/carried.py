"""How many messages a run of `cubed-bench throughput --no-baseline` moved: what its counters are divided by."""

# Sent before each slice and left out of the report (bench/src/node/loader.rs), in seconds.
WARM_UP = 0.05


def carried(report):
    """Delivered messages of a report, with those of the warm-ups: perf counts the whole run.

    >>> carried({"delivered": 2000, "seconds": 2.0, "slices": [{}] * 4})
    2200
    """
    warm_up = WARM_UP * len(report["slices"])
    return round(report["delivered"] * (1 + warm_up / report["seconds"]))
