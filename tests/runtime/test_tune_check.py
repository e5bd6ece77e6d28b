"""Who may win a tuning: engines that are there, variants whose decisions agree with the reference's."""

import math
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from runtime import candidates
from runtime.engines import ENGINES
from runtime.errors import EngineUnavailable, InputError
from runtime.profile import Profile

from .machines import SPEEDS, Bench, Runner, make_variant


def outs(profile: Profile) -> dict[str, str | None]:
    return {m.choice.variant: m.out for m in profile.measurements}


def test_the_fastest_that_decides_as_fp32_wins(bench: Bench) -> None:
    profile = bench.tune(bench.machine(flips={"int8-channel": 50, "int8": 200}))
    assert profile.winner.variant == "int8"
    assert outs(profile)["int8-channel"] == "agrees on 98.00%, and --floor is 99.00%"
    assert profile.measurement(profile.winner).agreement == pytest.approx(0.995, abs=0.002)
    assert any("out, agrees on 98.00%" in line for line in bench.said)


def test_a_lower_floor_lets_the_faster_one_win(bench: Bench) -> None:
    profile = bench.tune(bench.machine(flips={"int8-channel": 50}), floor=0.97)
    assert profile.winner.variant == "int8-channel"
    assert profile.gain == pytest.approx(1.2)


def test_an_engine_that_is_not_here_is_told_and_not_measured(bench: Bench) -> None:
    profile = bench.tune(bench.machine())
    assert {m.choice.engine for m in profile.measurements} == {"ort-cpu"}
    assert any("not measured: ort-cuda: it is not installed" in line for line in bench.said)


def test_without_any_engine_all_reasons_are_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "why_missing", lambda name: "it is not installed")
    with pytest.raises(EngineUnavailable, match=r"no engine here can run this bundle:\n  .*: it is not installed"):
        bench.tune(bench.machine())


def test_an_engine_that_computes_no_variant_of_the_bundle_is_told(bench: Bench) -> None:
    bench.manifest = replace(bench.manifest, variants={"int3": make_variant("int3")})
    with pytest.raises(EngineUnavailable, match=r"ort-cpu: it computes in .*, and no variant of the bundle is"):
        bench.tune(bench.machine())


def test_every_engine_that_is_here_is_measured_with_every_variant_it_computes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates, "why_missing", lambda name: None)
    profile = bench.tune(bench.machine())
    expected = {
        (name, variant)
        for name, spec in ENGINES.items()
        for variant in SPEEDS
        if make_variant(variant).precision in spec.precisions
    }
    assert {(m.choice.engine, m.choice.variant) for m in profile.measurements} == expected


def test_the_reference_is_the_fp32_that_is_nearest_to_the_golden_logits(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates, "why_missing", lambda name: None)
    errors = dict.fromkeys(ENGINES, 0.001) | {"ort-cpu": 1e-6}
    assert bench.tune(bench.machine(golden_errors=errors)).conditions.reference.startswith("fp32 on ort-cpu")
    errors = dict.fromkeys(ENGINES, 0.001) | {"ort-cuda": 1e-7, "ort-cpu": math.nan}
    assert bench.tune(bench.machine(golden_errors=errors)).conditions.reference.startswith("fp32 on ort-cuda")


def test_a_reference_that_breaks_off_is_followed_by_the_next(bench: Bench) -> None:
    bench.manifest = replace(bench.manifest, variants={**bench.manifest.variants, "fp32-2": make_variant("fp32-2")})
    machine = bench.machine(
        breaks={"fp32": "logits"}, speed=lambda choice: SPEEDS.get(choice.variant, 50.0), latency=lambda _: 0.01
    )
    profile = bench.tune(machine)
    assert profile.conditions.reference.startswith("fp32-2 on ort-cpu")
    assert outs(profile)["fp32"] == "cannot logits"


def test_without_fp32_the_most_exact_variant_is_the_reference(bench: Bench) -> None:
    bench.manifest = replace(bench.manifest, variants={"int8": make_variant("int8")})
    profile = bench.tune(bench.machine())
    assert profile.conditions.reference.startswith("int8 on ort-cpu")
    assert profile.winner.variant == "int8"


@pytest.mark.parametrize(
    ("own", "num_texts", "out"),
    [
        (False, 512, r"it did not pass its accuracy gate at export; 200 texts of yours \(--data\) may let it in, none"),
        (True, 199, r"it did not pass .*; 200 texts of yours \(--data\) may let it in, 199 were compared"),
        (True, 200, None),
    ],
)
def test_a_variant_that_did_not_pass_at_export_needs_texts_of_the_users(
    own: bool, num_texts: int, out: str | None, bench: Bench
) -> None:
    bench.manifest = replace(
        bench.manifest, variants={**bench.manifest.variants, "int8-channel": make_variant("int8-channel", passed=False)}
    )
    batch = bench.workload.encoded.batch
    workload = bench.workload._replace(
        own=own,
        texts=bench.workload.texts[:num_texts],
        encoded=bench.workload.encoded._replace(batch=batch.take(np.arange(num_texts))),
    )
    machine = bench.machine(workload=workload)
    profile = bench.tune(machine)
    if out is None:
        assert profile.winner.variant == "int8-channel"
    else:
        assert profile.winner.variant == "int8"
        assert "int8-channel" not in {choice.variant for choice in machine.opened}, "it is not even opened"
        assert re.match(out, str(outs(profile)["int8-channel"]))


def test_batch_invariant_admits_no_other(bench: Bench) -> None:
    profile = bench.tune(bench.machine(batch_dependent=("int8-channel",)), batch_invariant=True)
    assert profile.winner.variant == "int8"
    assert outs(profile)["int8-channel"] == "its answers depend on the batch, and --batch-invariant was asked for"
    assert profile.conditions.batch_invariant


def test_without_a_batch_invariant_engine_all_are_named(bench: Bench) -> None:
    with pytest.raises(InputError) as caught:
        bench.tune(bench.machine(batch_dependent=tuple(SPEEDS)), batch_invariant=True)
    for variant in SPEEDS:
        assert f"{variant} on ort-cpu, 8 threads, 512 tokens a batch: its answers depend" in str(caught.value)
    assert str(caught.value).endswith("Lower --floor, leave out --batch-invariant, or export other variants.")


def test_an_engine_that_breaks_off_is_out_and_the_others_go_on(bench: Bench) -> None:
    for where in ("open", "logits", "seconds"):
        profile = bench.tune(bench.machine(breaks={"int8-channel": where}))
        assert profile.winner.variant == "int8", where
        assert outs(profile)["int8-channel"] == f"cannot {where}"


def test_where_no_engine_opens_all_reasons_are_told(bench: Bench) -> None:
    with pytest.raises(
        EngineUnavailable, match=r"no engine here can answer as a reference:\n  fp32 on .*: cannot open"
    ):
        bench.tune(bench.machine(breaks=dict.fromkeys(SPEEDS, "open")))


def test_answers_that_are_no_numbers_are_out(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    right = Runner.logits

    def wrong(self: Runner, num_texts: int, *, max_batch_tokens: int) -> Any:
        rows = right(self, num_texts, max_batch_tokens=max_batch_tokens)
        return [row * math.nan for row in rows] if self.choice.variant == "int8" else rows

    monkeypatch.setattr(Runner, "logits", wrong)
    assert outs(bench.tune(bench.machine()))["int8"] == "its answers are no numbers (NaN or infinite)"
