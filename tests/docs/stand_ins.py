"""Real servers in place of those that the pages name."""

import re
import socket
from contextlib import ExitStack

from attrs import define, field

from tests.servers import mongo, postgres

STARTERS = {"postgresql": postgres.server_url, "mongodb": mongo.server_url}


PORT = re.compile(r"(localhost:|--port )8000\b")


def free_port() -> int:
    """Return a port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@define
class StandIns:
    """
    Servers, each started when a page first names one, and stopped when *exits* closes.

    What a page starts itself, on the port 8000, gets the free *port*.
    """

    exits: ExitStack
    urls: dict[str, str] = field(factory=dict)
    port: int = field(factory=free_port)

    def put_into(self, text: str, reader: str) -> str:
        """
        Return *text* with each server on localhost led to one of ours, each database to one of *reader*'s.

        A URL that is PostgreSQL's driver's own, or SQLAlchemy's, names the same database without a schema.
        """

        def place(named: re.Match[str]) -> str:
            call, scheme, dialect, database = named.groups()
            own = f"{database}_{reader}"
            if scheme == "mongodb":
                return f"{call}{self._url(scheme)}/{own}"
            url = self._url(scheme).replace(scheme, f"{scheme}{dialect}", 1)
            return f"{call}{url}" if call or dialect else f"{url}?schema={own}"

        text = PORT.sub(rf"\g<1>{self.port}", text)
        return re.sub(r'(asyncpg\.connect\("|)(postgresql|mongodb)(\+asyncpg|)://localhost/(\w+)', place, text)

    def _url(self, scheme: str) -> str:
        if scheme not in self.urls:
            self.urls[scheme] = self.exits.enter_context(STARTERS[scheme]())
        return self.urls[scheme]
