"""Pictures of results.

    python -m bench.plot RESULT.json … --output DIR

Draws each document that has a picture, as SVG and PNG: throughput against agreement, latency by length, accuracy with its interval, right answers by how many are given.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from bench.peers import FEEDS

PRECISIONS = {"fp32": "#4d4d4d", "bf16": "#d95f02", "int8": "#1b6ca8"}  # told apart in print and by the colour-blind
OURS = "portabert"
# Where a point's name may stand, in points from it, nearest first.
OFFSETS = sorted(
    ((right, up) for right in (7, -7, 16, -16, 40, -40) for up in range(-160, 161, 4)),
    key=lambda offset: abs(offset[0]) + abs(offset[1] + 3),
)


@dataclass(frozen=True, kw_only=True)
class PlotConfig:
    """Draw pictures of results."""

    results: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Documents that the benchmarks wrote with --output."""
    output: Path
    """The folder of the pictures."""


def main() -> None:
    """Run the program."""
    import matplotlib

    config = tyro.cli(PlotConfig, prog="python -m bench.plot", description=__doc__)
    matplotlib.use("agg")
    matplotlib.rcParams["svg.hashsalt"] = "portabert"  # the same picture, the same file
    config.output.mkdir(parents=True, exist_ok=True)
    for file in config.results:
        document = json.loads(file.read_text(encoding="utf-8"))
        draw = PICTURES.get(document["question"])
        if draw is None:
            print(f"{file.name}: no picture of {document['question']}; there are those of {', '.join(PICTURES)}")
            continue
        figure = draw(document)
        figure.text(0.01, 0.005, caption(document), fontsize=7, color="#666666")
        for ending in ("svg", "png"):
            target = config.output / f"{file.stem}.{ending}"
            figure.savefig(target, dpi=160, metadata={"Date": None} if ending == "svg" else None)
            print(target)


def caption(document: dict[str, Any]) -> str:
    """Say where the figures were taken, and of what model."""
    machine = document["machine"]
    return f"{document['run']}; {machine['processor'].partition(';')[0]}, {document['threads']} threads; {machine['system'].partition('-with')[0]}"


def best_settings(peers: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Keep of each model in a pipeline the way to feed it that gave most texts a second, under the model's name."""
    best: dict[str, dict[str, Any]] = {}
    for name, peer in peers.items():
        model = next((name.removesuffix(f" {feed}") for feed in FEEDS if name.endswith(f" {feed}")), name)
        if model not in best or peer["texts_per_s"] > best[model]["texts_per_s"]:
            best[model] = peer
    return best


def _throughput(document: dict[str, Any]) -> Any:
    peers = {name: peer for name, peer in best_settings(document["peers"]).items() if peer["agreement"] is not None}
    figure = _figure((11, 7))
    axes = figure.add_axes((0.07, 0.1, 0.9, 0.82))
    flips = {name: 100 * (1 - peer["agreement"]) for name, peer in peers.items()}
    for precision, colour in PRECISIONS.items():
        names = [name for name, peer in peers.items() if peer["precision"] == precision]
        axes.scatter(
            [peers[name]["texts_per_s"] for name in names],
            [flips[name] for name in names],
            s=[90 if name.startswith(OURS) else 40 for name in names],
            color=colour,
            label=precision,
            zorder=3,
        )
    axes.set_xlim(0, 1.18 * max(peer["texts_per_s"] for peer in peers.values()))
    axes.set_ylim(-0.35 * max([1.0, *flips.values()]), 1.15 * max([1.0, *flips.values()]))
    axes.invert_yaxis()
    axes.set_yticks([tick for tick in axes.get_yticks() if tick >= 0])
    axes.set_xlabel("texts a second, from strings to answers")
    axes.set_ylabel("answers other than those in fp32, %")
    axes.set_title(f"Throughput against agreement, {document['num_texts']:,} texts; up and to the right is better")
    axes.grid(color="#e5e5e5")
    axes.legend(loc="lower left", title="precision")
    _label(figure, axes, [(name, peer["texts_per_s"], flips[name]) for name, peer in peers.items()])
    return figure


def _label(figure: Any, axes: Any, points: list[tuple[str, float, float]]) -> None:
    """Name points, each at the nearest place where its name covers no other name and no point, with a line to the near edge of a name that stands off."""
    renderer = figure.canvas.get_renderer()
    places = {name: axes.transData.transform((x, y)) for name, x, y in points}
    taken, inside = [_around(place, size=11) for place in places.values()], axes.get_window_extent(renderer)
    for name, x, y in sorted(points, key=lambda point: -point[1]):
        weight = "bold" if name.startswith(OURS) else "normal"
        text = axes.annotate(name, (x, y), (0, 0), textcoords="offset points", fontsize=8.5, fontweight=weight)
        for right, up in OFFSETS:
            text.set_position((right, up))
            text.set_horizontalalignment("left" if right >= 0 else "right")
            box = text.get_window_extent(renderer).padded(1)
            fits = inside.x0 <= box.x0 and box.x1 <= inside.x1 and inside.y0 <= box.y0 and box.y1 <= inside.y1
            if fits and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
        edge = np.clip(places[name], (box.x0, box.y0), (box.x1, box.y1))
        away = (edge - places[name]) * 72 / figure.dpi  # from pixels to points
        if np.hypot(*away) > 6:
            line = {"arrowstyle": "-", "color": "#aaaaaa", "linewidth": 0.6, "shrinkA": 0}
            axes.annotate("", (x, y), away, textcoords="offset points", arrowprops=line, zorder=2)


def _figure(size: tuple[float, float]) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size)
    FigureCanvasAgg(figure)  # which can say how large a text is
    return figure


def _around(place: tuple[float, float], *, size: float) -> Any:
    from matplotlib.transforms import Bbox

    return Bbox.from_bounds(place[0] - size / 2, place[1] - size / 2, size, size)


def _latency(document: dict[str, Any]) -> Any:
    peers, cases = document["peers"], list(document["cases"])
    names = sorted(peers, key=lambda name: -peers[name]["cases"][cases[0]]["median_ms"])
    figure = _figure((3.2 + 2.7 * len(cases), 1.6 + 0.27 * len(names)))
    panels = figure.subplots(1, len(cases), sharey=True)
    for axes, case in zip(panels, cases, strict=True):
        values = [peers[name]["cases"][case]["median_ms"] for name in names]
        axes.barh(names, values, color=[PRECISIONS[peers[name]["precision"]] for name in names], height=0.72)
        for place, value in enumerate(values):
            axes.text(value, place, f" {value:.1f}", va="center", fontsize=8)
        axes.set_xlim(0, 1.2 * max(values))
        axes.set_title(case, fontsize=10)
        axes.tick_params(axis="x", labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    _mark_ours(panels[0], names)
    _legend(figure)
    figure.suptitle("Latency of one text alone, median ms, from string to answer; shorter is better", fontsize=12)
    figure.tight_layout(rect=(0, 0.03, 1, 0.98))
    return figure


def _accuracy(document: dict[str, Any]) -> Any:
    peers = document["peers"]
    names = sorted(peers, key=lambda name: peers[name]["accuracy"])
    figure = _figure((10, 1.6 + 0.27 * len(names)))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    for place, name in enumerate(names):
        peer, colour = peers[name], PRECISIONS[peers[name]["precision"]]
        left.plot((peer["accuracy_low"], peer["accuracy_high"]), (place, place), color=colour, linewidth=1.5)
        left.plot(peer["accuracy"], place, "o", color=colour, markersize=5)
    left.set_yticks(range(len(names)), names)
    left.set_xlabel(f"accuracy on {document['num_rows']:,} rows, with its 95 % interval")
    changed = [peers[name]["changed_by_batch"] for name in names]
    right.barh(range(len(names)), changed, color=[PRECISIONS[peers[name]["precision"]] for name in names], height=0.72)
    for place, value in enumerate(changed):
        right.text(value, place, f" {value}", va="center", fontsize=8)
    right.set_xlim(0, 1.2 * max(1, *changed))
    right.set_xlabel("rows that 31 others change")
    for axes in (left, right):
        axes.grid(axis="x", color="#e5e5e5")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    _mark_ours(left, names)
    _legend(figure)
    figure.tight_layout(rect=(0, 0.03, 1, 1))
    return figure


def _abstain(document: dict[str, Any]) -> Any:
    figure = _figure((8, 5))
    axes = figure.add_axes((0.1, 0.14, 0.87, 0.76))
    for (name, model), colour in zip(document["models"].items(), PRECISIONS.values(), strict=False):
        axes.plot(model["coverage"], model["precision"], color=colour, label=name)
        wanted: dict[tuple[float, float], list[str]] = {}  # several precisions may have one level
        for row in model["levels"]:
            if row["wanted"] is not None and row["level"] is not None:
                place = row["coverage"], row["precision"]
                axes.plot(*place, "o" if row["learned_on"] == "val" else "D", color=colour, markersize=5, clip_on=False)
                wanted.setdefault(place, []).append(f"{row['wanted']:g}")
        for place, names in wanted.items():
            side, offset = ("right", (-7, -9)) if place[0] > 0.9 else ("left", (5, 3))
            text = ", ".join(dict.fromkeys(names))
            axes.annotate(text, place, offset, textcoords="offset points", fontsize=7, ha=side)
    axes.set_xlim(0, 1)
    axes.set_ylim(top=1.005)
    axes.set_xlabel("share of the test texts that is answered, those of no intent among them")
    axes.set_ylabel("share of the answers that is right")
    axes.set_title(
        "Right answers, if only the surest are given; levels learned on val (●), and with its texts of no intent (◆)",
        fontsize=9,
    )
    axes.grid(color="#e5e5e5")
    axes.legend(loc="lower left", frameon=False)
    return figure


def _mark_ours(axes: Any, names: list[str]) -> None:
    for tick, name in zip(axes.get_yticklabels(), names, strict=True):
        tick.set_fontsize(8.5)
        tick.set_fontweight("bold" if name.startswith(OURS) else "normal")


def _legend(figure: Any) -> None:
    from matplotlib.patches import Patch

    patches = [Patch(color=colour, label=precision) for precision, colour in PRECISIONS.items()]
    figure.legend(handles=patches, loc="upper right", ncols=len(patches), fontsize=8, frameon=False)


PICTURES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "throughput": _throughput,
    "latency": _latency,
    "accuracy": _accuracy,
    "abstain": _abstain,
}


if __name__ == "__main__":
    main()
