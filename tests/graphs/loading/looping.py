"""Brings an event loop policy of its own, none of whose loops works outside of its application."""

import asyncio

from loading import graph


class Policy(asyncio.DefaultEventLoopPolicy):
    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        raise RuntimeError("loops are made by the application")

    def get_event_loop(self) -> asyncio.AbstractEventLoop:
        raise RuntimeError("loops are made by the application")


asyncio.set_event_loop_policy(Policy())
seen = graph()
