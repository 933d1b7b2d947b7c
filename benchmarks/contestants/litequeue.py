"""
litequeue: one thread that takes a message, does it, and marks it done; two transactions a job.

It has no worker of its own and nothing that wakes one; its file is written with `synchronous = NORMAL`.
"""

import json

from litequeue import LiteQueue

from benchmarks.task import Answer, Task, payload, rate, timed


def drain(task: Task) -> Answer:
    """Do the jobs in this thread."""
    queue = LiteQueue(str(task.path))
    for number in range(task.jobs):
        queue.put(json.dumps(payload(number)))
    with timed() as watch:
        while message := queue.pop():
            json.loads(message.data)
            queue.done(message.message_id, claim_id=message.claim_id)
    return rate(task.jobs, watch)


def enqueue(task: Task) -> Answer:
    """Queue jobs in this thread: there is no other way, so only one caller is measured."""
    queue = LiteQueue(str(task.path))
    with timed() as watch:
        for number in range(task.jobs):
            queue.put(json.dumps(payload(number)))
    return rate(task.jobs, watch)
