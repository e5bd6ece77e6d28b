"""The command line of the trainer.

python -m trainer                                            the embedded demo, into runs/demo
python -m trainer --train train.csv --eval dev.csv --output runs/mine
python -m trainer check --train train.csv --eval dev.csv     looks at the rows alone
python -m trainer compare runs/a runs/b                      puts finished runs beside each other
"""

import sys

import tyro

from runtime.errors import Error

from .config import TrainConfig
from .config_file import with_config_file


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        if arguments[:1] == ["check"]:
            return _check(arguments[1:])
        if arguments[:1] == ["compare"]:
            return _compare(arguments[1:])
        given = with_config_file(arguments, TrainConfig)
        config = tyro.cli(TrainConfig, prog="python -m trainer", args=given)
        return _train(config)
    except Error as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1


def _check(arguments: list[str]) -> int:
    from .doctor.check import check
    from .doctor.config import CheckConfig

    config = tyro.cli(CheckConfig, prog="python -m trainer check", args=with_config_file(arguments, CheckConfig))
    return check(config, say=lambda text: print(text, flush=True))


def _compare(arguments: list[str]) -> int:
    from .compare import CompareConfig, compare

    compare(tyro.cli(CompareConfig, prog="python -m trainer compare", args=arguments), say=print)
    return 0


def _train(config: TrainConfig) -> int:
    from .errors import Interrupted  # torch takes seconds to import; --help should not
    from .loop import train
    from .search import search
    from .seeds import train_seeds

    program = search if config.tune is not None else train_seeds if config.seeds > 1 else train
    try:
        record = program(config, say=lambda line: print(line, file=sys.stderr, flush=True))
    except Interrupted as exc:
        print(exc, file=sys.stderr)
        return 130  # as shells report Ctrl-C
    if record.model_sha256:  # the main process
        for name, metrics in (("eval", record.eval), ("test", record.test)):
            if metrics is not None:
                print(f"{name}: " + ", ".join(f"{metric} {value:.4f}" for metric, value in metrics.items()))
        print(f"run: {config.output}\nnext: python -m export {config.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
