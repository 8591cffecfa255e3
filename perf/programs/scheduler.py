"""A small operating system: tasks of several kinds pass packets to each other under a priority scheduler.

Methods of many classes, short bodies, attribute traffic: what an ordinary object-oriented program does all day.
"""

from __future__ import annotations

FULL, QUICK = 11_000, 60
CHECKSUMS = {FULL: 861205, QUICK: 28922}


class Packet:
    __slots__ = ("hops", "kind", "value")

    def __init__(self, kind: str, value: int) -> None:
        self.kind = kind
        self.value = value
        self.hops = 0

    def touch(self, amount: int) -> None:
        self.hops += 1
        self.value = (self.value * 31 + amount) % 65_521


class Mailbox:
    __slots__ = ("items", "taken")

    def __init__(self) -> None:
        self.items: list = []
        self.taken = 0

    def put(self, packet: Packet) -> None:
        self.items.append(packet)

    def empty(self) -> bool:
        return self.taken == len(self.items)

    def take(self) -> Packet:
        packet = self.items[self.taken]
        self.taken += 1
        if self.taken > 32:
            del self.items[: self.taken]
            self.taken = 0
        return packet


class Task:
    def __init__(self, name: str, priority: int) -> None:
        self.name = name
        self.priority = priority
        self.mailbox = Mailbox()
        self.runs = 0

    def ready(self) -> bool:
        return not self.mailbox.empty()

    def step(self, system: System) -> None:
        self.runs += 1
        self.handle(self.mailbox.take(), system)

    def handle(self, packet: Packet, system: System) -> None:
        raise NotImplementedError


class Source(Task):
    """Makes `left` packets, one a step, in turn for the device and for the workers."""

    def __init__(self, name: str, priority: int, left: int) -> None:
        super().__init__(name, priority)
        self.left = left

    def ready(self) -> bool:
        return self.left > 0

    def step(self, system: System) -> None:
        self.runs += 1
        self.left -= 1
        kind = "device" if self.left % 3 == 0 else "work"
        system.send(kind if kind == "device" else self.worker(), Packet(kind, self.left))

    def worker(self) -> str:
        return "worker-a" if self.left & 1 else "worker-b"


class Worker(Task):
    def __init__(self, name: str, priority: int, factor: int) -> None:
        super().__init__(name, priority)
        self.factor = factor

    def handle(self, packet: Packet, system: System) -> None:
        packet.touch(self.mix(packet.value))
        system.send("device" if self.heavy(packet) else "sink", packet)

    def mix(self, value: int) -> int:
        return value ^ self.factor

    def heavy(self, packet: Packet) -> bool:
        return packet.hops < 3 and packet.value % 4 == 0


class Device(Task):
    """Answers a packet only when the next one comes, as a device with one buffer does."""

    def __init__(self, name: str, priority: int) -> None:
        super().__init__(name, priority)
        self.held: Packet | None = None

    def handle(self, packet: Packet, system: System) -> None:
        packet.touch(7)
        held, self.held = self.held, packet
        if held is not None:
            system.send(self.route(held), held)

    def route(self, packet: Packet) -> str:
        return "sink" if packet.hops > 1 else "worker-a"


class Sink(Task):
    def __init__(self, name: str, priority: int) -> None:
        super().__init__(name, priority)
        self.total = 0

    def handle(self, packet: Packet, system: System) -> None:
        self.total = (self.total * 17 + packet.value + packet.hops) % 1_000_003


class System:
    def __init__(self, packets: int) -> None:
        self.sink = Sink("sink", 4)
        tasks = [
            Source("source", 0, packets),
            Worker("worker-a", 1, 0x55),
            Worker("worker-b", 2, 0x33),
            Device("device", 3),
            self.sink,
        ]
        self.tasks = sorted(tasks, key=lambda task: -task.priority)
        self.by_name = {task.name: task for task in tasks}

    def send(self, name: str, packet: Packet) -> None:
        self.by_name[name].mailbox.put(packet)

    def pick(self) -> Task | None:
        for task in self.tasks:
            if task.ready():
                return task
        return None

    def run(self) -> int:
        while (task := self.pick()) is not None:
            task.step(self)
        return self.sink.total + sum(task.runs for task in self.tasks)


def main(size: int = FULL) -> int:
    return System(size).run()
