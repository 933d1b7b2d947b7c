"""
Take one sample in this process, and print what it measured as JSON.

    python -m benchmarks.sample benchmarks.contestants.huey drain '{"storage": "sqlite", ...}'
"""

import json
import sys
from collections.abc import Sequence
from importlib import import_module

from benchmarks.task import Sampler, Task


def main(arguments: Sequence[str]) -> None:
    """Call the function *measure* of *module* with the task."""
    module, measure, task = arguments
    sampler: Sampler = getattr(import_module(module), measure)
    print(json.dumps(dict(sampler(Task.from_json(task)))))


if __name__ == "__main__":
    main(sys.argv[1:])
