"""One side of a measurement over a peer that is driven from Python.

    python workers.py writer|reader PEER PLACE BYTES PACED STREAMED

The pace is that of `panta bench`: the reader asks over a Unix socket for one step
('1') or for all the others ('*'), and ends with '.'. Puts copy one of two arrays made
beforehand; gets copy into an array of the reader's, whose elements are then summed
and compared with the sum of what was put.
"""

import ctypes
import json
import os
import socket
import sys
import time

import numpy as np

DEADLINE_S = 60.0


def fields(elements):
    """Two arrays of floats in 1 to 2."""
    made = []
    for step in range(2):
        bits = (np.arange(elements, dtype=np.uint64) + np.uint64(step * 7919)) & np.uint64((1 << 52) - 1)
        made.append((bits | np.uint64(0x3FF0000000000000)).view(np.float64))
    return made


def wait_until(ready, what):
    """Polls, as these peers want it; gives what `ready` gave."""
    end = time.monotonic() + DEADLINE_S
    while True:
        got = ready()
        if got is not None:
            return got
        if time.monotonic() > end:
            sys.exit(f"{what}: nothing within {DEADLINE_S} s")


class Iceoryx2:
    """Publish and subscribe over shared memory; a stamp precedes the data."""

    def __init__(self, place, elements, writer):
        import iceoryx2 as iox

        iox.set_log_level(iox.LogLevel.Error)
        self.iox = iox
        self.bytes = elements * 8 + 8
        self.node = iox.NodeBuilder.new().create(iox.ServiceType.Ipc)
        name = iox.ServiceName.new(place.strip("/").replace("/", "-"))
        service = (
            self.node.service_builder(name)
            .publish_subscribe(iox.Slice[ctypes.c_uint8])
            .enable_safe_overflow(False)
            .subscriber_max_buffer_size(4 if elements > 1 << 16 else 256)
            .open_or_create()
        )
        if writer:
            builder = service.publisher_builder().initial_max_slice_len(self.bytes)
            self.port = builder.backpressure_strategy(iox.BackpressureStrategy.RetryUntilDelivered).create()
        else:
            self.port = service.subscriber_builder().create()
        self.service = service

    def put(self, stamp, field):
        sample = self.port.loan_slice_uninit(self.bytes)
        address = sample.payload().data_ptr
        ctypes.c_uint64.from_address(address).value = stamp
        ctypes.memmove(address + 8, field.ctypes.data, field.nbytes)
        sample.assume_init().send()

    def get(self, into):
        sample = wait_until(self.port.receive, "iceoryx2")
        address = sample.payload().data_ptr
        stamp = ctypes.c_uint64.from_address(address).value
        ctypes.memmove(into.ctypes.data, address + 8, into.nbytes)
        sample.delete()
        return stamp

    def close(self):
        self.port.delete()


class Zenoh:
    """Publish and subscribe between two peers over loopback TCP; no message is dropped."""

    def __init__(self, place, elements, writer):
        import zenoh

        config = zenoh.Config()
        config.insert_json5("scouting/multicast/enabled", "false")
        where = os.path.join(place, "zenoh")
        if writer:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            config.insert_json5("listen/endpoints", f'["tcp/127.0.0.1:{port}"]')
            self.session = zenoh.open(config)
            self.port = self.session.declare_publisher(
                "bench", congestion_control=zenoh.CongestionControl.BLOCK
            )
            with open(where, "w") as file:
                file.write(str(port))
        else:
            with open(where) as file:
                config.insert_json5("connect/endpoints", f'["tcp/127.0.0.1:{file.read()}"]')
            self.session = zenoh.open(config)
            self.port = self.session.declare_subscriber("bench", zenoh.handlers.FifoChannel(4))
            time.sleep(0.5)  # until the publisher has heard of the subscriber

    def put(self, stamp, field):
        self.port.put(stamp.to_bytes(8, "little") + field.tobytes())

    def get(self, into):
        payload = bytes(self.port.recv().payload)
        into[:] = np.frombuffer(payload, dtype=np.float64, offset=8)
        return int.from_bytes(payload[:8], "little")

    def close(self):
        self.session.close()


class H5py:
    """A dataset that grows by a row each step, followed by single-writer multiple-reader mode."""

    def __init__(self, place, elements, writer):
        import h5py

        os.environ["HDF5_USE_FILE_LOCKING"] = "FALSE"
        path, self.step = os.path.join(place, "bench.h5"), 0
        if writer:
            self.file = h5py.File(path, "w", libver="latest")
            self.data = self.file.create_dataset(
                "u", (0, elements), maxshape=(None, elements), chunks=(1, elements), dtype="f8"
            )
            self.stamps = self.file.create_dataset("stamp", (0,), maxshape=(None,), chunks=(1024,), dtype="u8")
            self.file.swmr_mode = True
        else:
            self.file = h5py.File(path, "r", libver="latest", swmr=True)
            self.data, self.stamps = self.file["u"], self.file["stamp"]

    def put(self, stamp, field):
        self.data.resize(self.step + 1, axis=0)
        self.data[self.step] = field
        self.data.flush()
        self.stamps.resize(self.step + 1, axis=0)
        self.stamps[self.step] = stamp
        self.stamps.flush()
        self.step += 1

    def get(self, into):
        def there():
            self.stamps.refresh()
            return True if self.stamps.shape[0] > self.step else None

        wait_until(there, "h5py")
        self.data.refresh()
        self.data.read_direct(into, np.s_[self.step])
        stamp = int(self.stamps[self.step])
        self.step += 1
        return stamp

    def close(self):
        self.file.close()


PEERS = {"iceoryx2": Iceoryx2, "zenoh": Zenoh, "h5py": H5py}


def write(peer, place, elements, paced, streamed, warm):
    made = fields(elements)
    link = peer(place, elements, True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.join(place, "meeting"))
        listener.listen()
        print("ready", flush=True)
        stream, _ = listener.accept()
    step, total = 0, paced + warm + streamed
    while True:
        word = stream.recv(1)
        until = {b"1": step + 1, b"*": total}.get(word, step)
        if until == step:
            break
        for step in range(step, until):
            link.put(time.time_ns(), made[step % 2])
        step = until
    link.close()


def read(peer, place, elements, paced, streamed, warm):
    sums = [int(field.view(np.uint64).sum()) for field in fields(elements)]
    opening = time.monotonic()
    link = peer(place, elements, False)
    opened = time.monotonic()
    stream = socket.socket(socket.AF_UNIX)
    stream.connect(os.path.join(place, "meeting"))
    into = np.empty(elements)

    def receive(step):
        stamp = link.get(into)
        if int(into.view(np.uint64).sum()) != sums[step % 2]:
            sys.exit(f"step {step} is not what was put")
        return stamp

    latencies = []
    for step in range(paced):
        stream.sendall(b"1")
        stamp = receive(step)
        latencies.append((time.time_ns() - stamp) / 1e3)
    stream.sendall(b"*")
    timed = paced + warm
    for step in range(paced, timed):
        receive(step)
    begin = time.monotonic()
    for step in range(timed, timed + streamed):
        receive(step)
    seconds = time.monotonic() - begin
    p50 = float(np.median(latencies)) if latencies else 0.0
    print(json.dumps({"seconds": seconds, "p50_us": p50, "open_ms": (opened - opening) * 1e3}), flush=True)
    stream.sendall(b".")
    link.close()


if __name__ == "__main__":
    role, name, where, size, *steps = sys.argv[1:]
    arguments = (PEERS[name], where, int(size) // 8, *map(int, steps))
    write(*arguments) if role == "writer" else read(*arguments)
