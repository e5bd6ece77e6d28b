"""The command line of the exporter.

python -m export                                   runs/demo into bundles/demo
python -m export runs/mine --output bundles/mine
"""

import sys

import tyro

from runtime.errors import Error

from .config import ExportConfig


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code: 1 where the bundle would answer otherwise than the model."""
    try:
        config = tyro.cli(ExportConfig, prog="python -m export", args=arguments)
        from .pipeline import export  # torch takes seconds to import; --help should not

        report = export(config, say=lambda line: print(line, file=sys.stderr, flush=True))
    except Error as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1
    print(report.table())
    texts = "'one text' 'another text'" if report.pair else "'some text'"
    print(f"bundle: {config.target}\nnext: python -m runtime predict {config.target} {texts}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
