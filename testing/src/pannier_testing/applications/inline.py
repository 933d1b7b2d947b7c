"""Inline running: a command's handler at once, without a storage, but through the payloads that one would keep."""

from typing import TypeVar, cast

from pannier import Command, JobQueues

R = TypeVar("R")


async def run_inline(jobs: JobQueues, command: Command[R]) -> R:
    """
    Execute *command* here and now, as `JobQueues.execute` does, with what a worker would have read from a storage.

    The command is encoded and decoded before the handler sees it, and the result after it: what would be lost or
    refused on the way is found here.

    Raises:
        EncodingError: The command or the result can't be encoded.
        DecodingError: It can't be read back.
        UnregisteredCommandError: The command has no handler here.
        BaseException: Whatever the handler raises.
    """
    registration = jobs.registry.get(type(command))
    codec = registration.codec or jobs.codec
    received = codec.decode(codec.encode(command, registration.command), registration.command)
    result = await jobs.execute(cast("Command[R]", received))
    return cast("R", codec.decode(codec.encode(result, registration.result), registration.result))
