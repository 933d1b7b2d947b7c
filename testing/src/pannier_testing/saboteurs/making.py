"""What a saboteur is, and the decorators that make one of a class: one for each storage that can be spoilt."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import attrs
from attrs import field, frozen

from pannier.plugins import Plugins
from pannier.storage import JobStorageProvider, StorageAdapter
from pannier.urls import StorageUrl
from pannier_testing.reference.ledger import LEDGER_CAPABILITIES, Ledger, remove_ledger
from pannier_testing.reference.loopback import OPTIONS, LoopbackProvider, LoopbackServer, WholeStorage
from pannier_testing.reference.model import Model
from pannier_testing.reference.plugin import Shelves
from pannier_testing.reference.provider import ReferenceProvider, Shelf
from pannier_testing.saboteurs.relay import Relay, TransactionalRelay
from pannier_testing.subject import NewerSchema
from pannier_testing.values import Values

T = TypeVar("T")

ANGEL: Final = None
"""In the place of a rule: nothing is broken."""

MADE: Final = "__pannier_saboteur__"
"""Where a class keeps the saboteur that was made of it."""


@frozen(kw_only=True)
class Aids:
    """The test aids that a saboteur offers; see `Subject`."""

    damage: Callable[[str, str], None] | None = None
    store_size: Callable[[str], int] | None = None
    earlier_stores: Mapping[str, Callable[[str], JobStorageProvider]] = field(
        factory=dict[str, Callable[[str], JobStorageProvider]]
    )
    make_newer: Callable[[str, NewerSchema], None] | None = None
    unknown_fields: Callable[[str], Mapping[str, object]] | None = None


NO_AIDS: Final = Aids()


@frozen(kw_only=True)
class Saboteur:
    """
    A storage that breaks one rule, or an angel.

    Attributes:
        name: Such as "takes-low-priorities-first"; the scheme of its URLs, too.
        breaks: The number of the rule whose test must fail on it; None for an angel.
        does: What it does, in a sentence.
        adapter: Makes and destroys it.
        running: Runs what it needs, such as a server, and gives the template of its URLs meanwhile.
        aids: Its test aids.
        values: The contract's value classes: one is broken where the rule is about them.
        has_server: Whether a connection lies between it and its jobs, so that the network rules are asked of it.
    """

    name: str
    breaks: str | None
    does: str
    adapter: StorageAdapter
    running: Callable[[], AbstractContextManager[str]]
    aids: Aids = NO_AIDS
    values: Values = field(factory=Values)
    has_server: bool = False


def in_memory(name: str) -> WholeStorage:
    """Return an instance of the memory adapter's store called *name*."""
    return cast("WholeStorage", Plugins.installed().create_storage(StorageUrl(f"memory://{name}")))


def in_model(model: type[Model]) -> Callable[[str], WholeStorage]:
    """Return what makes instances of stores that keep jobs in a *model*."""
    shelves = Shelves()
    return lambda name: ReferenceProvider(shelves.shelf(name, model))


def on_model(breaks: str | None, *, aids: Aids = NO_AIDS) -> Callable[[type[Model]], type[Model]]:
    """Make a saboteur of a `Model` that is wrong, dressed as a storage in memory."""

    def mark(kind: type[Model]) -> type[Model]:
        return _shelved(kind, breaks, aids, ReferenceProvider, kind, Shelves())

    return mark


def on_reference(
    breaks: str | None,
    *,
    model: type[Model] = Model,
    aids: Aids = NO_AIDS,
    begin: Callable[[Shelf], AbstractAsyncContextManager[object]] | None = None,
) -> Callable[[type[ReferenceProvider]], type[ReferenceProvider]]:
    """
    Make a saboteur of a `ReferenceProvider` with a wrong verb: a storage in memory, with awaits of its own.

    Args:
        breaks: The rule, or `ANGEL`.
        model: What it keeps jobs in.
        aids: Its test aids.
        begin: Opens a transaction, for one with the add-on "transactions"; see `StorageAdapter.begin`.
    """

    def mark(kind: type[ReferenceProvider]) -> type[ReferenceProvider]:
        return _shelved(kind, breaks, aids, kind, model, Shelves(), begin=begin)

    return mark


def on_shelves(breaks: str | None) -> Callable[[type[Shelves]], type[Shelves]]:
    """Make a saboteur of `Shelves` that are wrong: of what keeps the namespaces of one process apart."""

    def mark(kind: type[Shelves]) -> type[Shelves]:
        return _shelved(kind, breaks, NO_AIDS, ReferenceProvider, Model, kind())

    return mark


def on_ledger(
    breaks: str | None, *, model: type[Model] = Model, aids: Aids = NO_AIDS
) -> Callable[[type[Ledger]], type[Ledger]]:
    """Make a saboteur of a wrong `Ledger`, or of a right one that holds a wrong model: durable, shared by processes."""

    def mark(kind: type[Ledger]) -> type[Ledger]:
        def create(url: StorageUrl) -> JobStorageProvider:
            return ReferenceProvider(kind(Path("/", url.path), model), LEDGER_CAPABILITIES)

        async def destroy(url: StorageUrl) -> None:
            remove_ledger(Path("/", url.path))

        return _marked(kind, _saboteur(kind, breaks, create, destroy, "/{tmp}/jobs.ledger", aids=aids))

    return mark


def on_memory(breaks: str | None, *, aids: Aids = NO_AIDS) -> Callable[[type[Relay]], type[Relay]]:
    """Make a saboteur of a `Relay` before the memory adapter."""

    def mark(kind: type[Relay]) -> type[Relay]:
        return _before(kind, breaks, "memory", "{namespace}", aids)

    return mark


def on_sqlite(
    breaks: str | None, *, aids: Aids = NO_AIDS
) -> Callable[[type[TransactionalRelay]], type[TransactionalRelay]]:
    """Make a saboteur of a `TransactionalRelay` before the SQLite adapter."""

    def mark(kind: type[TransactionalRelay]) -> type[TransactionalRelay]:
        return _before(kind, breaks, "sqlite", "/{tmp}/jobs.db", aids)

    return mark


def on_loopback(
    breaks: str | None,
    *,
    make_storage: Callable[[str], WholeStorage] = in_memory,
    password: str = "",
    aids: Aids = NO_AIDS,
) -> Callable[[type[LoopbackProvider]], type[LoopbackProvider]]:
    """Make a saboteur of a `LoopbackProvider`, the client's end, or of the storage behind its server."""

    def mark(kind: type[LoopbackProvider]) -> type[LoopbackProvider]:
        async def destroy(url: StorageUrl) -> None:
            await LoopbackProvider(url).destroy()

        @contextmanager
        def running() -> Iterator[str]:
            with LoopbackServer(make_storage, password=password) as server:
                credentials = f"user:{password}@" if password else ""
                yield f"{name_of(kind)}://{credentials}{server.address}/{{namespace}}"

        saboteur = _saboteur(kind, breaks, kind, destroy, "", aids=aids, options=OPTIONS)
        return _marked(kind, attrs.evolve(saboteur, running=running, has_server=True))

    return mark


def on_values(breaks: str, name: str) -> Callable[[type[T]], type[T]]:
    """Make a saboteur of a value class: the rules of level V get it as the field *name* of `Values`."""

    def mark(kind: type[T]) -> type[T]:
        shelves = Shelves()

        async def destroy(url: StorageUrl) -> None:
            shelves.remove(url.host)

        saboteur = _saboteur(
            kind, breaks, lambda url: ReferenceProvider(shelves.shelf(url.host)), destroy, "{namespace}"
        )
        broken: dict[str, Any] = {name: kind}
        return _marked(kind, attrs.evolve(saboteur, values=Values(**broken)))

    return mark


def name_of(kind: type) -> str:
    """Return the name of the saboteur that is made of *kind*: the class's own, in lower case with hyphens."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", kind.__name__).lower()


Kind = TypeVar("Kind")


def _shelved(
    kind: type[Kind],
    breaks: str | None,
    aids: Aids,
    dress: Callable[[Shelf], JobStorageProvider],
    model: type[Model],
    shelves: Shelves,
    *,
    begin: Callable[[Shelf], AbstractAsyncContextManager[object]] | None = None,
) -> type[Kind]:
    def create(url: StorageUrl) -> JobStorageProvider:
        return dress(shelves.shelf(url.host, model))

    async def destroy(url: StorageUrl) -> None:
        shelves.remove(url.host)

    saboteur = _saboteur(kind, breaks, create, destroy, "{namespace}", aids=aids)
    if begin is not None:
        adapter = attrs.evolve(saboteur.adapter, begin=lambda url: begin(shelves.shelf(url.host, model)))
        saboteur = attrs.evolve(saboteur, adapter=adapter)
    return _marked(kind, saboteur)


RelayKind = TypeVar("RelayKind", bound=Relay)


def _before(kind: type[RelayKind], breaks: str | None, scheme: str, rest: str, aids: Aids) -> type[RelayKind]:
    def real(url: StorageUrl) -> StorageUrl:
        return StorageUrl(f"{scheme}://{url.text.partition('://')[2]}")

    def create(url: StorageUrl) -> JobStorageProvider:
        return kind(Plugins.installed().create_storage(real(url)), real(url))

    async def destroy(url: StorageUrl) -> None:
        await Plugins.installed().adapter_for(real(url)).destroy(real(url))

    @asynccontextmanager
    async def begin(url: StorageUrl) -> AsyncIterator[object]:
        begin_real = Plugins.installed().adapter_for(real(url)).begin
        assert begin_real is not None
        async with begin_real(real(url)) as transaction:
            yield transaction

    saboteur = _saboteur(kind, breaks, create, destroy, rest, aids=aids)
    return _marked(kind, attrs.evolve(saboteur, adapter=attrs.evolve(saboteur.adapter, begin=begin)))


def _saboteur(
    kind: type,
    breaks: str | None,
    create: Callable[[StorageUrl], JobStorageProvider],
    destroy: Callable[[StorageUrl], Awaitable[None]],
    rest: str,
    *,
    aids: Aids = NO_AIDS,
    options: Mapping[str, str] | None = None,
) -> Saboteur:
    name = name_of(kind)

    @contextmanager
    def running() -> Iterator[str]:
        yield f"{name}://{rest}"

    return Saboteur(
        name=name,
        breaks=breaks,
        does=" ".join((kind.__doc__ or "").split()),
        adapter=StorageAdapter(name=name, schemes=(name,), create=create, destroy=destroy, options=options or {}),
        running=running,
        aids=aids,
    )


def _marked(kind: type[Kind], saboteur: Saboteur) -> type[Kind]:
    setattr(kind, MADE, saboteur)
    return kind
