"""A fresh process that opens one peer and answers one text: bench.cold_start starts it and reads its clock.

    PYTHON -m bench.first_answer '{"table": …, "peer": …, "job": {…}, "text": …}'

Prints one JSON line when the answer is there: the label, and the most memory the process ever held. Needs the standard library alone.
"""

import json
import logging
import os
import sys
from pathlib import Path

from bench.peers import Job
from bench.worker import open_table


def main() -> None:
    """Run the program."""
    request = json.loads(sys.argv[1])
    logging.disable(logging.WARNING)
    reply = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not come before the answer
    model = open_table(request["table"])[request["peer"]].open(Job(**request["job"]))
    label = model.one(request["text"])
    reply.write(json.dumps({"label": label, "peak_bytes": peak_bytes()}) + "\n")
    reply.flush()


def peak_bytes() -> int:
    """Give the most memory this process held resident, by VmHWM; getrusage's figure starts from that of the process which started this one."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status has no VmHWM; peak memory is measured on Linux alone")


if __name__ == "__main__":
    main()
