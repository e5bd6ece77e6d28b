"""The road of a text through a loaded bundle: encode → plan batches → engine → decode."""

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Literal, cast, overload

import numpy as np

from .batching import MAX_BATCH_TOKENS, plan
from .bundle import Manifest, check_digests, read
from .encode import Batch, Encoded, Encoder, Text
from .engines import Engine, Opened, Settings, open_engine
from .errors import BundleError, EngineUnavailable, InputError
from .host import NONE, Found, find
from .tasks import TASKS, Floats, Head, Prediction
from .threads import usable_threads

STREAM_CHUNK = 4096  # texts held at a time by `stream`; long enough that sorting by length pays


def load(
    path: str | Path,
    *,
    engine: str | Engine = "auto",
    variant: str = "auto",
    threads: int | None = None,
    instruction_set: str | None = None,
    max_batch_tokens: int | None = None,
    profile: str | Path | Literal[False] | None = None,
    abstain_below: float | None = None,
    verify: bool = False,
) -> "Classifier":
    """Open a bundle, as this machine's profile says where `python -m runtime tune` made one.

    Args:
        path: the bundle's folder.
        engine: "auto", the name of an engine (`runtime.ENGINES`), or an engine of your own, for which variant, threads and instruction_set have no meaning.
        variant: "auto" or the name of a variant.
        threads: threads the engine may use; None for as many as this process really has.
        instruction_set: what the native engine computes with, by the names in docs/native.md; None for PORTABERT_INSTRUCTION_SET, else the fastest.
        max_batch_tokens: the most tokens computed at once, padding counted; bounds memory. None: the profile's, else 512.
        profile: None for this machine's own, a file, or False for none. It counts where engine, variant, threads and instruction_set are not set. Without a profile "auto" is
            the first engine that runs here, and int8 where its accuracy gate passed, else fp32.
        abstain_below: answers with a lower score get `abstained=True`; 0 for none. None: the bundle's level, where it has one.
        verify: read every file and compare its SHA-256 digest before anything is opened.

    Raises:
        BundleError: the bundle is missing, damaged or unsafe.
        EngineUnavailable: the engine cannot run here.
        InputError: an option that does not exist, or a profile that was named and is not valid.
    """
    path = Path(path)
    manifest = read(path)
    if verify and (problems := check_digests(path, manifest)):
        raise BundleError("\n  ".join([f"{path}: {len(problems)} changed files", *problems]))
    if abstain_below is not None:
        _check_level(abstain_below, manifest)
        manifest = replace(manifest, abstain_below=abstain_below or None)
    given = {
        "engine": engine != "auto",
        "variant": variant != "auto",
        "threads": threads is not None,
        "instruction_set": instruction_set is not None,
    }
    first = [name for name, is_given in given.items() if is_given]
    if first:
        if profile not in (None, False, NONE):
            come = "comes" if len(first) == 1 else "come"
            warnings.warn(f"profile {profile} is not used: {', '.join(first)} {come} first", stacklevel=2)
    else:
        tuned = _open_tuned(path, manifest, find(path, manifest, profile=profile), max_batch_tokens)
        if tuned is not None:
            return tuned
    if not isinstance(engine, str) and first != ["engine"]:
        raise InputError(
            "variant, threads and instruction_set are for engines that are opened by name; leave them out. "
            f"Got variant={variant!r}, threads={threads!r}, instruction_set={instruction_set!r} instead."
        )
    return open_classifier(
        path,
        manifest,
        engine=engine,
        variant=variant,
        settings=Settings(threads=usable_threads(threads).number, instruction_set=instruction_set),
        max_batch_tokens=MAX_BATCH_TOKENS if max_batch_tokens is None else max_batch_tokens,
    )


def open_classifier(
    path: Path,
    manifest: Manifest,
    *,
    engine: str | Engine = "auto",
    variant: str = "auto",
    settings: Settings | None = None,
    max_batch_tokens: int = MAX_BATCH_TOKENS,
) -> "Classifier":
    """Open a bundle whose manifest is at hand, with exactly these settings; the exporter verifies a bundle so before its manifest is written.

    Args:
        path: the bundle's folder.
        manifest: its manifest.
        engine: as for `load`.
        variant: as for `load`.
        settings: how the engine uses the machine. None: as many threads as this process really has.
        max_batch_tokens: as for `load`.
    """
    if isinstance(engine, str):
        settings = settings or Settings(threads=usable_threads().number)
        opened = open_engine(engine, path=path, manifest=manifest, variant=variant, settings=settings)
    else:
        opened = Opened(engine, "custom", variant, "given")
    return Classifier(
        manifest=manifest, opened=opened, max_batch_tokens=max_batch_tokens, _head=open_head(path, manifest)
    )


def _check_level(level: float, manifest: Manifest) -> None:
    if not TASKS[manifest.task].abstains:
        raise InputError(
            f"abstain_below is for answers with one label; this bundle's task is {manifest.task}. Leave it out."
        )
    if not 0 <= level <= 1:
        raise InputError(f"abstain_below must be a probability from 0 to 1. Got {level!r} instead.")


def open_head(path: Path, manifest: Manifest) -> Head:
    """Open what a bundle needs beside an engine: its tokenizer, and what its logits mean."""
    per_token = TASKS[manifest.task].per_token
    encoder = Encoder(path, max_length=manifest.max_length, pair=manifest.pair, offsets=per_token)
    return Head(manifest.labels, manifest.thresholds, manifest.temperature, encoder, manifest.abstain_below)


def _open_tuned(path: Path, manifest: Manifest, found: Found, max_batch_tokens: int | None) -> "Classifier | None":
    """Open a bundle as its profile says; None where no profile counts, with a warning where one lies ready and does not."""
    problem = found.ignored
    if found.profile is not None:
        choice = found.profile.winner
        try:
            classifier = open_classifier(
                path,
                manifest,
                engine=choice.engine,
                variant=choice.variant,
                settings=choice.settings,
                max_batch_tokens=choice.max_batch_tokens if max_batch_tokens is None else max_batch_tokens,
            )
        except EngineUnavailable as exc:
            problem = f"profile {found.file} is not used: {exc}. Tune again: python -m runtime tune {path}"
        else:
            return replace(classifier, opened=classifier.opened._replace(reason=found.profile.summary))
    if problem is not None:
        warnings.warn(problem, stacklevel=3)
    return None


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """A model that answers. Made by `load`; safe to share between threads.

    Attributes:
        manifest: what the bundle says of itself, with the abstain level that `load` was given.
        opened: the engine and variant in use, and why they were chosen.
        max_batch_tokens: the most tokens computed at once, padding counted.
    """

    manifest: Manifest
    opened: Opened
    max_batch_tokens: int
    _head: Head

    @property
    def batch_invariant(self) -> bool:
        """Whether a text's logits are the same to the bit alone and in any batch, on this engine."""
        return self.opened.engine.batch_invariant

    @property
    def tokenizer(self) -> str:
        """What tokenises, for people."""
        return self._head.encoder.description

    # mypy counts a str as a Sequence[str] too; the first overload wins, as it does at run time.
    @overload
    def predict(self, texts: str | tuple[str, str] | Mapping[str, str]) -> Prediction: ...  # type: ignore[overload-overlap]

    @overload
    def predict(self, texts: Sequence[Text]) -> list[Prediction]: ...

    def predict(self, texts: Text | Sequence[Text]) -> Prediction | list[Prediction]:
        """Answer one text or many.

        Args:
            texts: one text, or a list of them. A text is a string, or for a model of pairs (text, text_pair) or {"text": …, "text_pair": …}.

        Returns:
            One Prediction for one text, a list in the order given for a list.

        Raises:
            InputError: something is not a text.
        """
        if isinstance(texts, (str, tuple, Mapping)):
            return self._predict([cast(Text, texts)], position=0)[0]
        if not isinstance(texts, Iterable):
            raise InputError(f"texts must be a text or a list of texts. Got {texts!r} instead.")
        return self._predict(list(texts), position=0)

    def stream(self, texts: Iterable[Text], *, chunk: int = STREAM_CHUNK) -> Iterator[Prediction]:
        """Answer any number of texts in bounded memory, in order.

        Args:
            texts: any iterable; it is read `chunk` texts ahead.
            chunk: texts held at a time.
        """
        iterator, position = iter(texts), 0
        while part := list(islice(iterator, chunk)):
            yield from self._predict(part, position=position)
            position += len(part)

    def encode(self, texts: Sequence[Text], *, position: int = 0) -> Encoded:
        """Tokenise texts as `predict` does."""
        return self._head.encoder.encode(texts, position=position)

    def logits(self, encoded: Encoded) -> list[Floats]:
        """Compute the logits of encoded texts: per text (C,), or (t, C) for a tagger."""
        batch, engine = encoded.batch, self.opened.engine
        if engine.num_lanes is None:
            return self._rows(batch, engine.run([batch])[0])
        results: list[Floats | None] = [None] * len(batch.lengths)
        plans = plan(batch.lengths, max_batch_tokens=self.max_batch_tokens, num_lanes=engine.num_lanes)
        parts = [batch.take(indices) for indices in plans]
        for indices, part, computed in zip(plans, parts, engine.run(parts), strict=True):
            for index, row in zip(indices, self._rows(part, computed), strict=True):
                results[index] = row
        return cast(list[Floats], results)

    def _rows(self, batch: Batch, computed: Floats) -> list[Floats]:
        """Cut what an engine computed into texts."""
        if computed.shape[-1] != len(self.manifest.labels):
            raise BundleError(
                f"the model gives {computed.shape[-1]} logits, the bundle has {len(self.manifest.labels)} labels. "
                "Export the model again."
            )
        per_token = TASKS[self.manifest.task].per_token
        return np.split(computed, batch.cu_seqlens[1:-1]) if per_token else list(computed)

    def _predict(self, texts: Sequence[Text], *, position: int) -> list[Prediction]:
        if not texts:
            return []
        encoded = self.encode(texts, position=position)
        if encoded.truncated.any():
            self._warn_truncated()
        tokens = encoded.tokens or (None,) * len(texts)
        logits = self.logits(encoded)
        decoded = TASKS[self.manifest.task].decode(logits, self._head, tokens)
        return [
            Prediction(
                **fields, truncated=truncated, logits=row, task=self.manifest.task, _head=self._head, _tokens=token
            )
            for fields, row, truncated, token in zip(decoded, logits, encoded.truncated.tolist(), tokens, strict=True)
        ]

    def _warn_truncated(self) -> None:
        # Python's warning filter shows a message once for each line that calls; a count would make every message a new one.
        warnings.warn(
            f"texts longer than {self.manifest.max_length} tokens were cut; each such answer has truncated=True",
            stacklevel=4,
        )
