"""How a program that is started loads the agent: its loader's LD_PRELOAD."""

from __future__ import annotations

import os
from collections.abc import Mapping


def preloading(environment: Mapping[str, str], agent: str, session: str, tells: str) -> dict[str, str]:
    """The environment with the agent before what is preloaded already.

    agent: path of its library. session: directory of the recording, which may get a link. tells: ATF_AGENT, what the agent is to do.
    """
    before = environment.get("LD_PRELOAD")
    first = _sayable(agent, session)
    return {**environment, "ATF_AGENT": tells, "LD_PRELOAD": first if before is None else f"{first}:{before}"}


def _sayable(agent: str, session: str) -> str:
    """A path of the agent that LD_PRELOAD can say: blanks and colons part its entries."""
    if not set(agent) & set(" \t:"):
        return agent
    link = os.path.join(session, os.path.basename(agent))
    if not os.path.lexists(link):
        os.symlink(agent, link)
    return link
