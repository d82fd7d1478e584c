"""A client of ``lamp-policy serve --protocol openpi`` at a fixed rate, for a robot: numpy, msgpack and websockets only.

    python examples/serving_client.py [--host 127.0.0.1] [--port 8000] [--token TOKEN] [--rate 10] [--steps 50]

It carries out one action of the chunk at each step, and asks for the next chunk while the last actions of this one are
carried out, so that the robot does not stand still while the policy thinks. When an answer is late, the robot holds
still and the step is counted as late. ``Robot`` is where your own robot goes; this one sees noise and only counts.
"""

import argparse
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import msgpack
import numpy as np
from websockets.sync.client import connect


class Client:
    """Asks a server for chunks of actions."""

    def __init__(self, host: str, port: int, token: str | None = None):
        headers = {"Authorization": f"Bearer {token}"} if token else None
        self._socket = connect(f"ws://{host}:{port}", compression=None, max_size=None, additional_headers=headers)
        self.metadata: dict[str, Any] = unpacked(self._socket.recv())

    def infer(self, observation: dict[str, Any]) -> np.ndarray:
        """The next actions, [H, A].

        Raises:
            RuntimeError: the server refused the observation; the message says why.
        """
        self._socket.send(msgpack.packb(observation, default=packed))
        reply = self._socket.recv()
        if isinstance(reply, str):
            raise RuntimeError(reply)
        return unpacked(reply)["actions"]

    def close(self) -> None:
        """Disconnect."""
        self._socket.close()


def packed(value: Any) -> Any:
    """An array as openpi's messages hold it."""
    if isinstance(value, np.ndarray):
        return {b"__ndarray__": True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": value.shape}
    raise TypeError(f"cannot send a {type(value).__name__}")


def unpacked(message: Any) -> dict[str, Any]:
    """A message of the server, with its arrays."""

    def array(values: dict[Any, Any]) -> Any:
        if b"__ndarray__" not in values:
            return values
        return np.frombuffer(values[b"data"], np.dtype(values[b"dtype"])).reshape(values[b"shape"])

    return msgpack.unpackb(message, object_hook=array)


class Robot:
    """Stands in for a robot: its cameras see noise, and it only counts what it is told."""

    def __init__(self, state_size: int):
        self._rng, self._state_size, self.done, self.late = np.random.default_rng(0), state_size, 0, 0

    def observe(self) -> dict[str, Any]:
        """What the policy sees now."""
        image, wrist = (self._rng.integers(0, 256, (256, 256, 3), np.uint8) for _ in range(2))
        state = np.zeros(self._state_size)
        return {"observation/image": image, "observation/wrist_image": wrist, "observation/state": state}

    def carry_out(self, action: np.ndarray) -> None:
        """Do one action."""
        self.done += 1

    def hold_still(self) -> None:
        """There is no action yet."""
        self.late += 1


def run(client: Client, robot: Robot, task: str, rate: float, steps: int, ahead: int) -> None:
    """Act at a fixed rate.

    Args:
        rate: actions a second.
        ahead: actions that are left when the next chunk is asked for; 0 asks when there is none left.
    """
    actions: deque[np.ndarray] = deque()
    asked: Future[np.ndarray] | None = None
    at = 0
    with ThreadPoolExecutor(1) as pool:
        due = time.monotonic()
        for step in range(steps):
            if asked is None and len(actions) <= ahead:
                asked, at = pool.submit(client.infer, {**robot.observe(), "prompt": task}), step
            if asked is not None and (asked.done() or (not actions and step == 0)):
                chunk = asked.result()
                # The chunk begins at the observation it was asked with: what is past by now is left out.
                actions = deque(chunk[step - at :])
                asked = None
            if actions:
                robot.carry_out(actions.popleft())
            else:
                robot.hold_still()
            due += 1 / rate
            time.sleep(max(0.0, due - time.monotonic()))


def main() -> None:
    """Try a server."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--token")
    parser.add_argument("--task", default="pick up the alphabet soup and place it in the basket")
    parser.add_argument("--rate", type=float, default=10.0, help="actions a second")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--ahead", type=int, default=4, help="actions left when the next chunk is asked for")
    args = parser.parse_args()
    client = Client(args.host, args.port, args.token)
    print("server:", client.metadata)
    robot = Robot(client.metadata["state_size"])
    run(client, robot, args.task, args.rate, args.steps, args.ahead)
    client.close()
    print(f"{robot.done} actions carried out, {robot.late} of {args.steps} steps without one")


if __name__ == "__main__":
    main()
