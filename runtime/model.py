"""The road of a text through a loaded bundle: encode → plan batches → engine → decode."""

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import cast, overload

import numpy as np

from .batching import MAX_BATCH_TOKENS, plan
from .bundle import Manifest, check_digests, read
from .encode import Encoded, Encoder, Text
from .engines import Engine, Opened, Settings, open_engine
from .errors import BundleError, InputError
from .tasks import TASKS, Floats, Head, Prediction
from .threads import usable_threads

STREAM_CHUNK = 4096  # texts held at a time by `stream`; long enough that sorting by length pays


def load(
    path: str | Path,
    *,
    engine: str | Engine = "auto",
    variant: str = "auto",
    threads: int | None = None,
    max_batch_tokens: int = MAX_BATCH_TOKENS,
    verify: bool = False,
) -> "Classifier":
    """Open a bundle.

    Args:
        path: the bundle's folder.
        engine: "auto", the name of an engine (`runtime.ENGINES`), or an engine of your own, for which variant and threads have no meaning.
        variant: "auto" (int8 where its accuracy gate passed, else fp32) or the name of a variant.
        threads: threads the engine may use; None for as many as this process really has.
        max_batch_tokens: the most tokens computed at once, padding counted; bounds memory.
        verify: read every file and compare its SHA-256 digest before anything is opened.

    Raises:
        BundleError: the bundle is missing, damaged or unsafe.
        EngineUnavailable: the engine cannot run here.
        InputError: an option that does not exist.
    """
    path = Path(path)
    manifest = read(path)
    if verify and (problems := check_digests(path, manifest)):
        raise BundleError("\n  ".join([f"{path}: {len(problems)} changed files", *problems]))
    return open_classifier(
        path, manifest, engine=engine, variant=variant, threads=threads, max_batch_tokens=max_batch_tokens
    )


def open_classifier(
    path: Path,
    manifest: Manifest,
    *,
    engine: str | Engine = "auto",
    variant: str = "auto",
    threads: int | None = None,
    max_batch_tokens: int = MAX_BATCH_TOKENS,
) -> "Classifier":
    """Open a bundle whose manifest is at hand, as `load` does; the exporter verifies a bundle so before its manifest is written."""
    if isinstance(engine, str):
        opened = open_engine(
            engine,
            path=path,
            manifest=manifest,
            variant=variant,
            settings=Settings(threads=usable_threads(threads).number),
        )
    elif variant != "auto" or threads is not None:
        raise InputError(
            f"variant and threads are for engines that are opened by name; leave them out. Got variant={variant!r}, threads={threads!r} instead."
        )
    else:
        opened = Opened(engine, "custom", variant, "given")
    encoder = Encoder(path, max_length=manifest.max_length, pair=manifest.pair, offsets=TASKS[manifest.task].per_token)
    head = Head(manifest.labels, manifest.thresholds, manifest.temperature, encoder)
    return Classifier(manifest=manifest, opened=opened, max_batch_tokens=max_batch_tokens, _head=head)


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """A model that answers. Made by `load`; safe to share between threads.

    Attributes:
        manifest: what the bundle says of itself.
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
        batch = encoded.batch
        results: list[Floats | None] = [None] * len(batch.lengths)
        engine = self.opened.engine
        plans = plan(batch.lengths, max_batch_tokens=self.max_batch_tokens, num_lanes=engine.num_lanes)
        parts = [batch.take(indices) for indices in plans]
        for indices, part, computed in zip(plans, parts, engine.run(parts), strict=True):
            if computed.shape[-1] != len(self.manifest.labels):
                raise BundleError(
                    f"the model gives {computed.shape[-1]} logits, the bundle has {len(self.manifest.labels)} labels. "
                    "Export the model again."
                )
            rows = np.split(computed, part.cu_seqlens[1:-1]) if TASKS[self.manifest.task].per_token else computed
            for index, row in zip(indices, rows, strict=True):
                results[index] = row
        return cast(list[Floats], results)

    def _predict(self, texts: Sequence[Text], *, position: int) -> list[Prediction]:
        if not texts:
            return []
        encoded = self.encode(texts, position=position)
        if encoded.truncated.any():
            self._warn_truncated()
        tokens = encoded.tokens or (None,) * len(texts)
        decode = TASKS[self.manifest.task].decode
        return [
            Prediction(
                **decode(logits, self._head, token),
                truncated=bool(truncated),
                logits=logits,
                task=self.manifest.task,
                _head=self._head,
                _tokens=token,
            )
            for logits, truncated, token in zip(self.logits(encoded), encoded.truncated, tokens, strict=True)
        ]

    def _warn_truncated(self) -> None:
        # Python's warning filter shows a message once for each line that calls; a count would make every message a new one.
        warnings.warn(
            f"texts longer than {self.manifest.max_length} tokens were cut; each such answer has truncated=True",
            stacklevel=4,
        )
