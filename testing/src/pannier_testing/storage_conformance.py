"""The conformance suite as a class: derive from it in a test module, and pytest holds your storage to every rule."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar

from pannier_testing.rules import CONTRACT, RuleTest, collect_tests
from pannier_testing.subject import NewerSchema, Place

if TYPE_CHECKING:
    import pytest  # half of what a child process would load

    from pannier.storage import JobStorageProvider
    from pannier_testing.plugin import Suite

FIXED = ("test_rule", "pytest_generate_tests", "__init_subclass__")


class StorageConformance:
    """
    Every rule of the contract, as tests of one storage.

    Derive `class TestMyStorage(StorageConformance)` and say where the storage is. The tests can't be switched off.

    Attributes:
        adapter: A plugin that is not installed as an entry point: a module, a module's attribute, or its import path.
        deviations: Known faults, by rule number, each with a reason. Strict: one that passes is a failure.
    """

    adapter: ClassVar[object | None] = None
    deviations: ClassVar[Mapping[str, str]] = {}

    def storage_url(self, env: Place) -> str:
        """
        Return the URL of the storage in *env*, a fresh place for every test: use its `namespace` or its `tmp`.

        Called again for other instances and processes only through the URL.
        """
        raise NotImplementedError

    def damage(self, url: str, tracking_id: str) -> None:
        """
        Test aid, optional: make the stored record of one job unreadable (R56).

        Called on a thread of its own, while the storage is open in this process.
        """
        raise NotImplementedError

    def store_size(self, url: str) -> int:
        """
        Test aid, optional: return the bytes or records that the store uses (R76).

        Called on a thread of its own, while the storage is open in this process.
        """
        raise NotImplementedError

    def earlier_stores(self) -> "Mapping[str, Callable[[str], JobStorageProvider]]":
        """
        Test aid, optional: return what makes and uses stores of earlier schemas, by the schema's name (R115, R116).

        Each maker gets the URL of a store that is not there yet, and returns an unopened instance of the adapter as it
        was then: its `open()` makes the earlier schema, and it goes on working when others have migrated the store.
        """
        return {}

    def make_newer(self, url: str, newer: NewerSchema) -> None:
        """
        Test aid, optional: make the closed store at *url* one of a schema that this adapter does not know (R115, R116).

        The schema says of itself what *newer* says. Each job that is stored there gets a field of it, with a value.
        """
        raise NotImplementedError

    def unknown_fields(self, url: str) -> Mapping[str, object]:
        """Test aid, goes with `make_newer`: return the values of that field, by tracking id as text (R116)."""
        raise NotImplementedError

    def __init_subclass__(cls, **kwargs: object) -> None:
        """
        Look at the class as it is made.

        Raises:
            TypeError: It overrides or deletes a test, or declares a deviation from a rule that does not exist.
        """
        super().__init_subclass__(**kwargs)
        for name in FIXED[:2]:
            if getattr(cls, name, None) is not getattr(StorageConformance, name):
                raise TypeError(f"{cls.__qualname__} replaces {name}: the suite's tests can't be switched off")
        if "__init_subclass__" in vars(cls):
            raise TypeError(f"{cls.__qualname__} replaces __init_subclass__: the suite's tests can't be switched off")
        unknown = sorted(set(cls.deviations) - set(CONTRACT))
        if unknown:
            raise TypeError(f"{cls.__qualname__} declares deviations from unknown rules: {', '.join(unknown)}")

    def pytest_generate_tests(self, metafunc: "pytest.Metafunc") -> None:
        """Give `test_rule` one test of the suite at a time."""
        chosen: list[str] = metafunc.config.getoption("pannier_rule")
        tests = [test for test in collect_tests() if not chosen or test.rule.number in chosen]
        metafunc.parametrize("rule_test", tests, ids=[test.id for test in tests])

    def test_rule(self, rule_test: RuleTest, request: "pytest.FixtureRequest") -> None:
        """Hold the storage to one rule of the contract."""
        suite: Suite | None = request.config.pluginmanager.get_plugin("pannier-suite")
        assert suite is not None
        suite.hold(self, rule_test, request.node)
