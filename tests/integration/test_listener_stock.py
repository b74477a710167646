"""Listener processes that go from port to port."""

import os
from dataclasses import replace

import numpy as np

from camera_plugins.jungfrau.emulator import Emulator, EmulatorConfig, numbered_images
from camera_plugins.jungfrau.wire import PortShape
from lima2_core.data.memory import BufferPool
from lima2_core.net import ListenerStock, Port
from lima2_core.testing.doubles import eventually
from tests.integration.packets import HOST, LIMIT_S, PATIENT


def received(stock, rows, frames, options=PATIENT):
    """Receive frames of one port with a listener of the stock; its pid, and how it was granted."""
    layout = PortShape(1, rows).packet_layout()
    pool = BufferPool(layout.frame_bytes)
    pool.grow(frames)
    port = Port(layout, HOST, 0, pool, depth=frames, options=options, stock=stock)
    leases = [pool.lease() for _ in range(frames)]
    port.give([(number + 1, lease.slot) for number, lease in enumerate(leases)])
    port.start(1, count=frames)
    config = EmulatorConfig(destinations=(((HOST, port.port),),), rows=rows, frames=frames)
    Emulator(config, numbered_images).run()
    done = 0
    while done < frames:
        done += len(port.completions(LIMIT_S))
    first = (512 - rows) // 2
    for number, lease in enumerate(leases):
        image = lease.array((rows, 1024), np.uint16)
        assert np.array_equal(image, numbered_images(number, 0)[first : first + rows])
    pid, stats = port.pid, port.stats()
    port.ask_stop()
    port.wait_stopped()
    port.close()
    return pid, stats


def test_a_listener_goes_to_the_next_port_and_lets_go_of_the_last():
    stock = ListenerStock(1)

    first, _ = received(stock, 16, 3)
    open_before = len(os.listdir(f"/proc/{first}/fd"))
    second, stats = received(stock, 64, 5, replace(PATIENT, cpus=(0,)))
    third, usual = received(stock, 8, 2)

    assert first == second == third
    assert stats.cpus == "0"
    assert usual.cpus == ",".join(map(str, sorted(os.sched_getaffinity(0))))
    assert len(os.listdir(f"/proc/{first}/fd")) == open_before
    stock.close()
    assert not os.path.exists(f"/proc/{first}")


def test_one_that_died_is_left_out():
    stock = ListenerStock(2)
    process, _ = stock._idle[0]
    process.kill()
    assert eventually(lambda: process.poll() is not None)

    pid, _ = received(stock, 8, 1)

    assert pid != process.pid
    stock.close()


def test_what_comes_back_to_a_closed_stock_ends():
    stock = ListenerStock()
    process, control = stock.take()
    stock.close()

    stock.give_back((process, control))

    assert process.poll() is not None
