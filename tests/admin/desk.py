"""An operator of a test's daemon: asks the admin API, follows its stream."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException, HTTPResponse
from typing import Any

from tests.daemon import ADMIN_KEY, Answer, Daemon, eventually


def ask(daemon: Daemon, path: str, *, key: str | None = ADMIN_KEY) -> Any:
    answer = daemon.request("GET", f"/v1/admin/{path}", key=key)
    assert answer.status == 200, answer.body
    return answer.json


def send(daemon: Daemon, method: str, path: str, body: object = None, *, key: str | None = ADMIN_KEY) -> Answer:
    sent = None if body is None else json.dumps(body).encode()
    return daemon.request(method, f"/v1/admin/{path}", sent, {"Content-Type": "application/json"}, key=key)


class Stream:
    """Server-sent events, as they come."""

    def __init__(self, response: HTTPResponse) -> None:
        self._response = response

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        kind = ""
        while line := self._response.readline():
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name == "event":
                kind = value
            elif name == "data":
                yield kind, json.loads(value)

    def until(self, event: str, /, **wanted: object) -> Any:
        """Give the first one of this name that is as wanted."""
        for name, data in self:
            if name == event and all(data[key] == value for key, value in wanted.items()):
                return data
        raise AssertionError(f"the stream ended before {event}")


@contextmanager
def following(daemon: Daemon, *, key: str = ADMIN_KEY) -> Iterator[Stream]:
    connection = daemon.connection()

    def opened() -> HTTPResponse:
        connection.request("GET", "/v1/admin/executions/events", headers={"X-API-Key": key})
        return connection.getresponse()

    try:
        response = opened()

        def has_room() -> bool:
            # Who has just left may still be counted.
            nonlocal response
            if response.status == 429:
                response.read()
                response = opened()
            return response.status != 429

        eventually(has_room)
        assert response.status == 200, response.read()
        assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        with response:
            yield Stream(response)
    finally:
        connection.close()


class Running:
    """An execution under way, in a thread of its own."""

    def __init__(self, daemon: Daemon, code: str, lang: str = "py", *, user: str | None = None) -> None:
        self._answer: Answer | None = None

        def run() -> None:
            # A daemon that is killed answers nobody.
            with suppress(OSError, HTTPException):
                self._answer = daemon.try_execute(code, lang, user=user)

        self._thread = threading.Thread(target=run)
        self._thread.start()

    def give_up(self) -> None:
        """Have it that the daemon was killed meanwhile."""
        self._thread.join()
        assert self._answer is None

    def answer(self) -> Answer:
        self._thread.join()
        assert self._answer is not None
        return self._answer
