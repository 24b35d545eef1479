"""Runs chunks through worker processes and gives the results back in order, with bounded memory."""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Any

# Results that may wait for an earlier one, per worker. More would only cost memory.
_AHEAD = 4


class WorkerDied(RuntimeError):
    """A worker process ended by itself (killed, out of memory)."""


def ordered_map(process: Callable[[Any], Any], tasks: Iterator[Any], num_workers: int) -> Iterator[tuple[Any, Any]]:
    """Yields (task, process(task)) in the order of the tasks.

    Workers are forked, so `process` and what it holds need not be picklable. An exception of
    `process` is raised here. One worker means one worker process, too: a caller's memory stays its own.
    """
    pool = _Pool(process, num_workers)
    try:
        yield from pool.run(tasks)
    finally:
        pool.close()


class _Pool:
    def __init__(self, process: Callable[[Any], Any], num_workers: int) -> None:
        context = multiprocessing.get_context("fork")
        self._processes = []
        self._connections: list[Connection] = []
        for _ in range(num_workers):
            ours, theirs = context.Pipe()
            child = context.Process(target=_serve, args=(process, theirs, os.getpid()), daemon=True)
            child.start()
            theirs.close()
            self._processes.append(child)
            self._connections.append(ours)

    def run(self, tasks: Iterator[Any]) -> Iterator[tuple[Any, Any]]:
        tasks = iter(tasks)
        idle = list(self._connections)
        busy: dict[Connection, tuple[int, Any]] = {}
        done: dict[int, tuple[Any, Any]] = {}
        sent = given = 0
        upcoming = next(tasks, None)
        while True:
            # A worker gets a task only when it waits for one: then neither side can block the other.
            while upcoming is not None and idle and sent - given < _AHEAD * len(self._connections):
                connection = idle.pop()
                self._send(connection, upcoming)
                # Only what identifies the task is kept while the worker has it.
                busy[connection] = (sent, upcoming)
                sent += 1
                upcoming = next(tasks, None)
            while given in done:
                yield done.pop(given)
                given += 1
            if not busy:
                if upcoming is None:
                    return
                continue
            for connection in wait(list(busy)):
                number, task = busy.pop(connection)
                done[number] = (task, self._receive(connection))
                idle.append(connection)

    def _send(self, connection: Connection, task: Any) -> None:
        try:
            connection.send(task)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise self._death(connection) from error

    def _receive(self, connection: Connection) -> Any:
        try:
            error, text, result = connection.recv()
        except (EOFError, ConnectionResetError) as problem:
            raise self._death(connection) from problem
        if error is not None:
            error.add_note(text)
            raise error
        return result

    def _death(self, connection: Connection) -> WorkerDied:
        process = self._processes[self._connections.index(connection)]
        process.join(1)
        return WorkerDied(f"worker process {process.pid} ended with exit code {process.exitcode}; was it out of memory?")

    def close(self) -> None:
        for connection in self._connections:
            connection.close()
        for process in self._processes:
            process.join(2)
            if process.is_alive():
                process.kill()
                process.join()


def _serve(process: Callable[[Any], Any], connection: Connection, parent: int) -> None:
    # Ctrl-C reaches the whole group; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        while True:
            # Siblings hold copies of the parent's pipe ends, so its death shows in the parent id, not as end of file.
            while not connection.poll(0.5):
                if os.getppid() != parent:
                    os._exit(1)
            task = connection.recv()
            try:
                reply = (None, "", process(task))
            except Exception as error:
                reply = (error, traceback.format_exc(), None)
            connection.send(reply)
    except (EOFError, OSError):
        # The parent closed the pipe: there is no more work.
        pass
    finally:
        # Skips the parent's exit handlers, which were copied by the fork.
        os._exit(0)
