"""PUBLISH to many subscribers: how many messages a server hands out for a second of its processor time (publish)."""

import select
import socket
import time

from .context import rotated
from .processes import cpu_seconds, stop_all
from .results import Metric, Suite, number

SUBSCRIBERS = (1, 100, 1000)
PIPELINES = (1, 16)  # PUBLISHes that the publisher sends at once
DELIVERIES = 200_000  # of a sample: messages times subscribers
MESSAGES_MAX = 20_000
CHANNEL, PAYLOAD = b"channel", b"x" * 64
METRICS = [Metric("per_cpu_s", "messages per CPU second", less=False, digits=0), Metric("per_s", "messages/s", less=False, digits=0)]


def bulk(word):
    return b"$%d\r\n%b\r\n" % (len(word), word)


PUBLISH = b"*3\r\n" + bulk(b"PUBLISH") + bulk(CHANNEL) + bulk(PAYLOAD)
MESSAGE = b"*3\r\n" + bulk(b"message") + bulk(CHANNEL) + bulk(PAYLOAD)
SUBSCRIBE = b"*2\r\n" + bulk(b"SUBSCRIBE") + bulk(CHANNEL)
SUBSCRIBED = b"*3\r\n" + bulk(b"subscribe") + bulk(CHANNEL) + b":1\r\n"


class Audience:
    """So many subscribers of a server, and who publishes to them."""

    def __init__(self, server, subscribers):
        self.server = server
        self.poll = select.epoll()
        self.buffer = bytearray(1 << 18)
        self.sockets = {}
        self.missing = 0  # bytes
        for _ in range(subscribers):
            connection = socket.create_connection(("127.0.0.1", server.port))
            connection.sendall(SUBSCRIBE)
            self.sockets[connection.fileno()] = connection
            self.poll.register(connection.fileno(), select.EPOLLIN)
        self.missing += subscribers * len(SUBSCRIBED)
        self.drain()
        self.publisher = socket.create_connection(("127.0.0.1", server.port))
        self.publisher.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def drain(self, wait=True):
        """What has come; all of it if it is to wait."""
        while self.missing > 0:
            ready = self.poll.poll(30 if wait else 0)
            if not ready:
                break
            for descriptor, _ in ready:
                self.missing -= self.sockets[descriptor].recv_into(self.buffer)
        if wait and self.missing != 0:
            raise ConnectionError("%s: %d bytes of messages are missing" % (self.server.name, self.missing))

    def publish(self, messages, pipeline):
        reply = b":%d\r\n" % len(self.sockets)
        for _ in range(messages // pipeline):
            self.publisher.sendall(PUBLISH * pipeline)
            self.missing += pipeline * len(self.sockets) * len(MESSAGE)
            awaited = pipeline * len(reply)
            while awaited > 0:
                awaited -= len(self.publisher.recv(awaited))
            self.drain(wait=False)
        self.drain()

    def close(self):
        for connection in [*self.sockets.values(), self.publisher]:
            connection.close()
        self.poll.close()


def sample(case, audience, messages, pipeline):
    audience.publish(max(messages // 20, pipeline), pipeline)
    used, begin = cpu_seconds(audience.server.pid), time.perf_counter()
    audience.publish(messages, pipeline)
    used, taken = cpu_seconds(audience.server.pid) - used, time.perf_counter() - begin
    handed_out = messages // pipeline * pipeline * len(audience.sockets)
    case.add(audience.server.name, per_cpu_s=handed_out / used, per_s=handed_out / taken)


def publish(context):
    suite = Suite("publish", "PUBLISH to many subscribers", "messages of 64 bytes; one publisher; %d round%s of %s messages" % (
        context.rounds, "s"[:context.rounds != 1], number(DELIVERIES)))
    servers = context.start_all(context.specs, suite)
    deliveries = DELIVERIES // (20 if context.options.quick else 1)
    for subscribers in SUBSCRIBERS:
        audiences = [Audience(server, subscribers) for server in servers]
        messages = min(deliveries // subscribers, MESSAGES_MAX)
        for pipeline in PIPELINES:
            case = suite.case("%s subscriber%s, pipeline %d" % (number(subscribers), "s"[:subscribers != 1], pipeline), METRICS)
            for turn in range(context.rounds):
                for audience in rotated(audiences, turn):
                    sample(case, audience, max(messages, pipeline), pipeline)
        for audience in audiences:
            audience.close()
        context.log("publish: %s subscribers" % number(subscribers))
    stop_all()
    return suite
