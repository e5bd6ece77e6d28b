"""The picture of a profile."""

import re
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from typing import Any
from xml.etree import ElementTree

import pytest

from runtime.pareto import CHARACTER, HEIGHT, LINE, WIDTH, draw
from runtime.profile import Measurement, Profile

SVG = "{http://www.w3.org/2000/svg}"
MakeProfile = Callable[..., Profile]


@pytest.fixture
def crowd(make_profile: MakeProfile, measurement: Callable[..., Measurement]) -> Profile:
    """Give a profile of five variants close together, with settings of one of them."""
    made = make_profile()
    base = made.measurements[0].choice
    others = [
        measurement(replace(base, variant="bf16", engine="ort-cuda"), texts_per_s=149.0, agreement=0.9995),
        measurement(replace(base, variant="int8-channel"), texts_per_s=151.0, agreement=0.97, out="agrees on 97.00%"),
        measurement(replace(base, variant="fp16"), texts_per_s=101.0, agreement=0.996),
        measurement(replace(base, threads=2), texts_per_s=120.0, agreement=None, latency_ms=None),
        measurement(replace(base, variant="never-timed"), texts_per_s=None, agreement=None, out="cannot open"),
        measurement(replace(base, variant="never-compared"), texts_per_s=90.0, agreement=None),
    ]
    return replace(made, measurements=(*made.measurements, *others))


def tree(profile: Profile, title: str = "a bundle") -> ElementTree.Element:
    return ElementTree.fromstring(draw(profile, title=title))


def texts(picture: ElementTree.Element) -> list[str]:
    return [element.text or "" for element in picture.iter(f"{SVG}text")]


def circles(picture: ElementTree.Element) -> list[dict[str, str]]:
    return [element.attrib for element in picture.iter(f"{SVG}circle")]


def test_each_variant_on_an_engine_is_labelled_once(crowd: Profile) -> None:
    labels = texts(tree(crowd))
    for label in (
        "chosen: fp32 on ort-cpu, 1 thread, not spinning, 1,024 tokens a batch",
        "int8 on ort-cpu (default)",
        "bf16 on ort-cuda",
        "int8-channel on ort-cpu: out",
        "fp16 on ort-cpu",
    ):
        assert labels.count(label) == 1, labels
    assert not any("never" in label for label in labels)


def test_points_stand_where_their_figures_are(crowd: Profile) -> None:
    """Faster is further right, and more agreement is further up; a setting that was not compared is at its variant's height."""
    points = circles(tree(crowd))
    int8, fp32, bf16, channel, fp16, setting = [(float(p["cx"]), float(p["cy"])) for p in points]
    assert int8[0] < fp16[0] < setting[0] < bf16[0] < fp32[0] < channel[0]
    assert fp32[1] < bf16[1] < fp16[1] < int8[1] < channel[1]
    assert setting[1] == int8[1]


def test_the_chosen_one_is_marked_and_who_is_out_is_hollow(crowd: Profile) -> None:
    points = circles(tree(crowd))
    fills = [point["fill"] for point in points]
    assert fills.count("none") == 1
    assert [point["fill"] != points[0]["fill"] and point["fill"] != "none" for point in points].index(True) == 1
    assert float(points[1]["r"]) == max(float(point["r"]) for point in points)
    assert float(points[5]["r"]) == min(float(point["r"]) for point in points)


def test_the_line_joins_those_that_none_beats_in_both(
    make_profile: MakeProfile, measurement: Callable[..., Measurement]
) -> None:
    made = make_profile()
    base = made.winner
    figures = [(100.0, 1.0), (150.0, 0.998), (140.0, 0.997), (200.0, 0.992), (90.0, 0.999)]
    rows = [
        measurement(replace(base, variant=f"v{index}"), texts_per_s=speed, agreement=share)
        for index, (speed, share) in enumerate(figures)
    ]
    beaten = measurement(replace(base, variant="out"), texts_per_s=300.0, agreement=0.9, out="agrees on 90.00%")
    winner = rows[1].choice
    profile = replace(made, winners={"throughput": winner}, default=None, measurements=(*rows, beaten))
    picture = tree(profile)
    line = next(picture.iter(f"{SVG}polyline")).attrib["points"].split()
    places = [f"{point['cx']},{point['cy']}" for point in circles(picture)]
    assert [places.index(place) for place in line] == [3, 1, 0]


def test_labels_cover_no_other_label_and_no_point(crowd: Profile) -> None:
    picture = tree(crowd)
    boxes = []
    for element in picture.iter(f"{SVG}text"):
        if not re.search(r"^(?!agreement).* on ort", element.text or ""):
            continue
        width, x, y = len(element.text or "") * CHARACTER, float(element.attrib["x"]), float(element.attrib["y"])
        left = x - {"start": 0.0, "end": width, "middle": width / 2}[element.attrib["text-anchor"]]
        boxes.append((left, y - LINE + 4, left + width, y + 4))
    assert len(boxes) == 5
    for one, other in combinations(boxes, 2):
        assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
    for left, top, right, bottom in boxes:
        assert 0 <= left <= right <= WIDTH
        assert 0 <= top <= bottom <= HEIGHT
        for point in circles(picture):
            assert not (left < float(point["cx"]) < right and top < float(point["cy"]) < bottom)


def test_with_labels_in_the_data_the_metric_is_upwards(
    make_profile: MakeProfile, measurement: Callable[..., Measurement]
) -> None:
    made = make_profile()
    rows = tuple(replace(m, quality=quality) for m, quality in zip(made.measurements, (0.91, 0.89), strict=True))
    profile = replace(made, measurements=rows, conditions=replace(made.conditions, quality="accuracy"))
    picture = tree(profile)
    assert "accuracy" in texts(picture)
    int8, fp32 = circles(picture)
    assert float(int8["cy"]) < float(fp32["cy"])
    assert "agreement with fp32 on ort-cpu" in texts(tree(made))


@pytest.mark.parametrize(
    ("speeds", "shares", "ticks"),
    [
        ((100.0, 150.0), (0.99, 1.0), ["0", "50", "100", "150"]),
        ((0.2, 0.9), (1.0, 1.0), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        ((2e5, 1e6), (0.2, 0.9), ["0", "200,000", "400,000", "600,000", "800,000", "1,000,000"]),
    ],
)
def test_axes_have_round_ticks_that_hold_every_point(
    speeds: tuple[float, float], shares: tuple[float, float], ticks: list[str], make_profile: MakeProfile
) -> None:
    made = make_profile()
    rows = tuple(
        replace(m, texts_per_s=speed, agreement=share)
        for m, speed, share in zip(made.measurements, speeds, shares, strict=True)
    )
    picture = tree(replace(made, measurements=rows))
    found = [text for text in texts(picture) if re.fullmatch(r"[\d,.]+", text)]
    assert all(float(text) <= 1 for text in found[: -len(ticks)]), "no share is above 1"
    assert found[-len(ticks) :] == ticks
    for point in circles(picture):
        assert 0 <= float(point["cx"]) <= WIDTH
        assert 0 <= float(point["cy"]) <= HEIGHT


def test_a_title_is_text_and_never_markup(make_profile: MakeProfile) -> None:
    title = '<script>alert("1")</script> & more'
    assert title in texts(tree(make_profile(), title))
    assert "<script" not in draw(make_profile(), title=title)


def test_its_colours_are_seen_on_white_and_on_black(crowd: Profile) -> None:
    """Contrast by WCAG's formula, at least 3 on both: what large text and graphics need."""
    for colour in set(re.findall(r'"(#[0-9a-f]{6})"', draw(crowd, title="x"))):
        light = _luminance(colour)
        assert 1.05 / (light + 0.05) >= 3, colour
        assert (light + 0.05) / 0.05 >= 3, colour


def _luminance(colour: str) -> float:
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    weights: list[Any] = [0.2126, 0.7152, 0.0722]
    return float(sum(weight * value for weight, value in zip(weights, linear, strict=True)))
