"""A program that has apprise tell one notice.

`python -m acmems.notices.targets.apprise_worker` reads one JSON object from standard input and writes one to
standard output. It is killed when it takes too long.
"""

from __future__ import annotations

import contextlib
import json
import sys
from typing import Any

import apprise


def main() -> None:
    """Do what standard input asks for."""
    asked = json.load(sys.stdin)
    answer = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):  # a service may print
        reason = work(asked)
    json.dump({"reason": reason}, answer)


def work(asked: dict[str, Any]) -> str | None:
    """Tell a notice.

    Args:
        asked: `url`, `title`, `body` and `type`.

    Returns:
        why that has failed, without anything secret; None if it has not.
    """
    service = apprise.Apprise()
    try:
        if not service.add(asked["url"]):
            return "apprise does not know such a URL: see https://appriseit.com/services/"
        if not service.notify(
            asked["body"], title=asked["title"], notify_type=getattr(apprise.NotifyType, asked["type"])
        ):
            return "apprise could not tell the service: 'apprise -vv' with the same URL says why"
    except Exception as error:  # noqa: BLE001 - a hundred services, each with errors of its own
        return f"apprise failed: {type(error).__name__}"
    return None


if __name__ == "__main__":
    main()
