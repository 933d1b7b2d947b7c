"""
Middleware: async functions wrapped around every execution, immediate and queued alike (E9).

The first is the outermost. One of them may look at the command, time it, open a transaction, refuse to go on, or change
the result; a failure passes through all of them to the worker.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from pannier.commands import Command
from pannier.context import JobContext

Next: TypeAlias = Callable[[Command[object]], Awaitable[object]]
"""Executes the rest of the chain, the handler last."""

Middleware: TypeAlias = Callable[[Command[object], JobContext[object], Next], Awaitable[object]]
"""`async def middleware(command, job, call_next): return await call_next(command)`."""


def wrap(middleware: Sequence[Middleware], handler: Next, job: JobContext[object]) -> Next:
    """Return *handler* inside all of *middleware*, which get *job*."""
    chain = handler
    for layer in reversed(middleware):
        chain = _around(layer, job, chain)
    return chain


def _around(layer: Middleware, job: JobContext[object], inner: Next) -> Next:
    def call(command: Command[object]) -> Awaitable[object]:
        return layer(command, job, inner)

    return call
