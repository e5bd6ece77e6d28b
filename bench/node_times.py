"""Where one pass over an ONNX graph spends its time, by kind of node, by onnxruntime's own profiler."""

import json
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from bench.peers.onnxruntime_by_hand import session_options

PASSES = 20


def node_times(
    file: Path,
    make_feeds: Callable[[tuple[str, ...]], list[dict[str, Any]]],
    *,
    threads: int,
    disabled: tuple[str, ...],
) -> dict[str, float]:
    """Give milliseconds a pass by kind of node: each node's median over PASSES passes, summed up.

    Args:
        file: the graph.
        make_feeds: the graph's input names to what is fed; the first of it is profiled.
        threads: that compute.
        disabled: onnxruntime's graph optimisers to leave out.
    """
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = session_options(threads)
        options.enable_profiling, options.profile_file_prefix = True, f"{folder}/profile"
        session = onnxruntime.InferenceSession(
            str(file), options, providers=["CPUExecutionProvider"], disabled_optimizers=list(disabled)
        )
        feeds = make_feeds(tuple(node.name for node in session.get_inputs()))[0]
        for _ in range(PASSES):
            session.run(None, feeds)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return sum_by_kind(events)


def sum_by_kind(events: list[dict[str, Any]]) -> dict[str, float]:
    """Sum the profiler's events, whose times are in microseconds."""
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            times[event["args"]["op_name"], event["name"]].append(event["dur"])
    kinds: dict[str, float] = defaultdict(float)
    for (kind, _), durations in times.items():
        kinds[kind] += median(durations) / 1e3
    return dict(kinds)


def print_node_times(shape: str, tables: Mapping[str, Mapping[str, float]]) -> None:
    """Print the graphs side by side, the kind that takes most first."""
    most = {kind: max(table.get(kind, 0.0) for table in tables.values()) for table in tables.values() for kind in table}
    print(f"{'ms a pass at ' + shape:34}" + "".join(f"{name:>26}" for name in tables))
    for kind in sorted(most, key=lambda kind: -most[kind]):
        print(f"{kind:34}" + "".join(f"{table.get(kind, 0.0):>26.3f}" for table in tables.values()))
    print(f"{'all nodes':34}" + "".join(f"{sum(table.values()):>26.3f}" for table in tables.values()))
