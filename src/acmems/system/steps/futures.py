"""Futures that are done only when something else has been done, so that nobody is told before."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def after(future: Future[T], step: Callable[[T], R]) -> Future[R]:
    """Return a future of what a step makes of what another one brings; it fails with either."""
    made: Future[R] = Future()

    def go_on(done: Future[T]) -> None:
        try:
            made.set_result(step(done.result()))
        except BaseException as error:  # noqa: BLE001 - whoever waits hears of it
            made.set_exception(error)

    future.add_done_callback(go_on)
    return made


def chained(future: Future[T], step: Callable[[T], Future[R]]) -> Future[R]:
    """Return a future of what a step's own future brings; it fails with any of them."""
    made: Future[R] = Future()

    def end(done: Future[R]) -> None:
        if (error := done.exception()) is not None:
            made.set_exception(error)
        else:
            made.set_result(done.result())

    def go_on(done: Future[T]) -> None:
        try:
            step(done.result()).add_done_callback(end)
        except BaseException as error:  # noqa: BLE001 - whoever waits hears of it
            made.set_exception(error)

    future.add_done_callback(go_on)
    return made
