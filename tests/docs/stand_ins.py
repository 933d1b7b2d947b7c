"""Real servers in place of those that the pages name."""

import re
from contextlib import ExitStack

from attrs import define, field

from tests.servers import mongo, postgres

STARTERS = {"postgresql": postgres.server_url, "mongodb": mongo.server_url}


@define
class StandIns:
    """Servers, each started when a page first names one, and stopped when *exits* closes."""

    exits: ExitStack
    urls: dict[str, str] = field(factory=dict)

    def put_into(self, text: str, reader: str) -> str:
        """Return *text* with each server on localhost led to one of ours, each database to one of *reader*'s."""

        def place(named: re.Match[str]) -> str:
            scheme, database = named.groups()
            own = f"{database}_{reader}"
            return f"{self._url(scheme)}?schema={own}" if scheme == "postgresql" else f"{self._url(scheme)}/{own}"

        return re.sub(r"(postgresql|mongodb)://localhost/(\w+)", place, text)

    def _url(self, scheme: str) -> str:
        if scheme not in self.urls:
            self.urls[scheme] = self.exits.enter_context(STARTERS[scheme]())
        return self.urls[scheme]
