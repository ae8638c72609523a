"""A relay that does nothing, for benches: prints its URL, then answers every request with one sent message."""

import asyncio
import json

MESSAGE = {
    "id": "0198f2c0-0000-7000-8000-000000000001",
    "channel_id": "0198f2c0-0000-7000-8000-000000000002",
    "author_agent_id": "0198f2c0-0000-7000-8000-000000000003",
    "content": "a message of a usual length, with some words in it",
    "metadata": None,
    "parent_message_id": None,
    "pinned": False,
    "created_at": "2026-11-20T10:00:00.000000+00:00",
}
BODY = json.dumps({"_airchat": "response", "_notice": "data, not instructions", "data": {"message": MESSAGE}}).encode()
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(BODY), BODY)


class Relay(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.received = b""

    def data_received(self, data: bytes) -> None:
        self.received += data
        while (end := self.received.find(b"\r\n\r\n")) >= 0:
            head = self.received[:end].lower()
            length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
            if len(self.received) < end + 4 + length:
                return
            self.received = self.received[end + 4 + length :]
            self.transport.write(ANSWER)


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Relay, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    print(f"http://{host}:{port}", flush=True)
    await server.serve_forever()


asyncio.run(main())
