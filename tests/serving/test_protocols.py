"""Each protocol, spoken by a client of its own kind over a socket: the answers are those of a direct call."""

import asyncio
import base64
import http.client
import importlib.util
import io
import json
import socket
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import msgpack
import numpy as np
import pytest
import torch
from fixtures.command import ROOT
from fixtures.policy import CHUNK, STATE, observed, policy, predicted
from PIL import Image
from vla_eval import serve_background
from vla_eval.connection import Connection
from vla_eval.protocol.messages import Message, MessageType, pack_message
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from lamp_model.prediction import Noise, Prediction
from lamp_model.serving.access import Access, CannotListen
from lamp_model.serving.conventions import client_for, match
from lamp_model.serving.episode import Served
from lamp_model.serving.pictures import decode_picture
from lamp_model.serving.protocols import make_protocol, openpi
from lamp_model.serving.protocols.vla_eval import LampModelServer, episode_seed
from lamp_model.serving.service import PolicyService
from schemas.plugins import own_plugin_names

PROTOCOLS = own_plugin_names("lamp_model.serving.protocols")
WEBSOCKETS = ["openpi", "vla-eval"]
SENT = [np.ascontiguousarray(image[:, ::-1]) for image in observed(0).images]
"""Pictures of the first observation as LIBERO's clients send them, mirrored."""
TASK = {"suite": "libero_goal", "task_id": 3, "episode_idx": 2}
TOKEN = "open-sesame"
STILL = observed(0).state


@contextmanager
def serving(protocol, access=None, made=None, service=None, **served):
    """A server on a free port."""
    made = made or policy()
    spoken = make_protocol(protocol)
    with PolicyService(made, **(service or {})) as running:
        matched = match(made, client_for(made, spoken.clients))
        server = spoken.start(Served(running, matched, **served), access or Access(port=0))
        try:
            yield server
        finally:
            server.close()


@pytest.fixture(scope="module")
def shared():
    """A server of each protocol, for the tests that leave it as it was."""
    with ExitStack() as stack:
        yield {protocol: stack.enter_context(serving(protocol)) for protocol in PROTOCOLS}


@contextmanager
def openpi_client(server, **options):
    """What ``openpi_client.WebsocketClientPolicy`` does."""
    with connect(f"ws://127.0.0.1:{server.port}", compression=None, max_size=None, **options) as socket:
        socket.metadata = msgpack.unpackb(socket.recv(), object_hook=openpi._unpacked)
        yield socket


def infer(socket, values):
    socket.send(openpi.pack(values))
    reply = socket.recv()
    return reply if isinstance(reply, str) else openpi.unpack(reply)


def of_openpi(**changes):
    values = {
        "observation/image": SENT[0],
        "observation/wrist_image": SENT[1],
        "observation/state": observed(0).state,
        "prompt": observed(0).instruction,
    }
    return {**values, **changes}


def of_vla_eval(**changes):
    values = {
        "images": {"agentview": SENT[0], "wrist": SENT[1]},
        "states": observed(0).state,
        "task_description": observed(0).instruction,
    }
    return {**values, **changes}


def of_authors(**changes):
    example = {
        "image": [encoded(image) for image in SENT],
        "lang": observed(0).instruction,
        "state": observed(0).state.tolist(),
    }
    return {"examples": [example], **changes}


def encoded(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def asked(server, method, path, body=None, **headers):
    """Status and content of an HTTP answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        body = json.dumps(body).encode() if isinstance(body, dict | list) else body
        connection.request(method, path, body, headers)
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


def predict(server, body, **headers):
    status, content = asked(server, "POST", "/predict_action", body, **headers)
    return status, json.loads(content)


async def acted(url, *observations, task=TASK, connection=None):
    """vla-eval's answers to the observations of one episode."""
    async with Connection(url, max_retries=1) as client:
        await client.start_episode({"task": task})
        return [await client.act(one) for one in observations], client.server_info


def libero(chunk):
    """The actions of the policy as LIBERO's environment takes them."""
    return np.concatenate([chunk[:, :-1], 1 - 2.0 * (chunk[:, -1:] > 0.5)], axis=1).astype(np.float32)


@pytest.mark.parametrize("inside", [False, True], ids=["lamp-policy", "vla-eval's server"])
def test_vla_eval_gets_one_action_after_another(inside):
    made, seed = policy(), 7 + 2 * 100_000 + 3000 + 2
    assert episode_seed(7, {"task": TASK}) == seed
    with PolicyService(made) as service:
        served = Served(service, match(made, client_for(made, make_protocol("vla-eval").clients)), execute=3)
        if inside:
            running = serve_background(LampModelServer(served))
        else:
            running = make_protocol("vla-eval").start(served, Access(port=0))
        try:
            url = f"ws://127.0.0.1:{running.port}"
            answers, info = asyncio.run(acted(url, of_vla_eval(), {}, {}, of_vla_eval()))
            again, _ = asyncio.run(acted(url, of_vla_eval()))
            until(lambda: service.values()["sessions"] == 0)  # even of clients that do not end their episode
        finally:
            running.close()
    chunk = libero(predicted(made, observed(0), seed))
    for number, answer in enumerate(answers[:3]):
        np.testing.assert_allclose(answer["actions"], chunk[number], atol=1e-6)
        assert answer["remaining"] == 2 - number
    following = libero(predicted(made, observed(0), seed, calls=2))
    np.testing.assert_allclose(answers[3]["actions"], following[0], atol=1e-6)
    np.testing.assert_array_equal(again[0]["actions"], answers[0]["actions"])
    params = {"send_wrist_image": True, "send_state": True, "quat_no_antipodal": True}
    assert info["observation_params"] == params
    assert info["action_spec"]["gripper"]["format"] == "binary_close_positive"


def test_openpi_gets_whole_chunks_and_may_choose_its_seed():
    made = policy()
    with serving("openpi", made=made) as running, openpi_client(running) as client:
        assert client.metadata["chunk"] == CHUNK and client.metadata["actions"] == "libero_osc_delta"
        first, second = (infer(client, of_openpi())["actions"] for _ in range(2))
        seeded = infer(client, of_openpi(seed=3, return_motion=True))
    np.testing.assert_allclose(first, libero(predicted(made, observed(0), 7)), atol=1e-6)
    np.testing.assert_allclose(second, libero(predicted(made, observed(0), 7, calls=2)), atol=1e-6)
    np.testing.assert_allclose(seeded["actions"], libero(predicted(made, observed(0), 3)), atol=1e-6)
    assert seeded["motion"].shape == (400, 32, 3) and seeded["server_timing"]["infer_ms"] > 0


def test_a_policy_of_any_robot_is_served_under_openpis_names():
    made = policy(convention=None, state_names=None)
    images = dict(zip(("observation/image", "observation/wrist_image"), observed(0).images, strict=True))
    with serving("openpi", made=made) as running, openpi_client(running) as client:
        found = infer(client, of_openpi(**images))["actions"]
    np.testing.assert_allclose(found, predicted(made, observed(0), 7), atol=1e-6)


def test_the_authors_protocol_gives_the_authors_answers():
    made = policy()
    with serving("http", made=made) as running:
        status, found = predict(running, of_authors(seed=5, return_motion=1, unnorm_key="libero", more="ignored"))
        other_image = {**of_authors()["examples"][0], "image": [encoded(SENT[1]), encoded(SENT[0]), "no third"]}
        _, two = predict(running, of_authors(examples=[*of_authors()["examples"], other_image], seed=5))
        random = [predict(running, of_authors())[1]["actions"] for _ in range(2)]
        assert asked(running, "GET", "/health") == (200, b'{"status":"ok"}')
        for method, path in (("GET", "/health?x=1"), ("GET", "/predict_action"), ("POST", "/predict_action/")):
            assert asked(running, method, path, b"{}") == (404, b'{"error":"not_found"}')
        assert asked(running, "PUT", "/predict_action", b"{}")[0] == 501
        assert b" " not in asked(running, "POST", "/predict_action", of_authors(seed=5))[1]
    generator = torch.Generator().manual_seed(5)
    row = made.predict_batch([made.prepare(observed(0))], Noise.draw(made.model, 1, generator), ["first-step"])[0]
    assert status == 200 and isinstance(row, Prediction)
    np.testing.assert_allclose(found["actions"], [row.actions], atol=1e-6)
    np.testing.assert_allclose(found["normalized_actions"], [row.normalised], atol=1e-6)
    sent = match(made, client_for(made, make_protocol("http").clients)).motion(row.motion.numpy())
    np.testing.assert_allclose(found["motion_flow"], [sent], atol=1e-6)
    generator = torch.Generator().manual_seed(5)
    motion, action = made.model.motion_noise(2, generator), made.model.action_noise(2, generator)
    swapped = replace(observed(0), images=observed(0).images[::-1])
    rows = made.predict_batch([made.prepare(o) for o in (observed(0), swapped)], Noise(motion, action), ["none"] * 2)
    np.testing.assert_allclose(two["actions"], [row.actions for row in rows], atol=2e-5)
    assert random[0] != random[1]


BAD_JSON = [
    (b"not json", "Expecting value"),
    (b"[1]", "must be a JSON object, found list"),
    (b'{"examples": []}', "needs examples"),
    (of_authors(examples=[{}]), "must be an object with image"),
    (of_authors(seed="x"), "whole number of 64 bits"),
    (of_authors(seed=[1]), "found [1]"),
    (of_authors(seed={}), "found {}"),
    (b"{", "a request of 1 bytes does not read as JSON"),
    (of_authors(seed=2**70), "whole number of 64 bits"),
    (
        of_authors(unnorm_key="mars"),
        "unnorm_key is 'mars', and this server was started with the statistics of 'libero'",
    ),
    (b'{"examples": [{"image": ["", ""], "lang": "x", "state": [NaN]}]}', "a number must be finite, found NaN"),
    (of_authors(examples=[{**of_authors()["examples"][0], "image": ["?", "?"]}]), "not base64"),
    (
        of_authors(examples=[{**of_authors()["examples"][0], "image": ["aGk=", "aGk="]}]),
        "of 2 bytes does not decode: it is no",
    ),
    (of_authors(examples=[{**of_authors()["examples"][0], "lang": ""}]), "the instruction is empty"),
    (of_authors(examples=[{**of_authors()["examples"][0], "state": [0] * 7}]), "the state must be 8 numbers"),
    (
        json.dumps(of_authors(examples=[{**of_authors()["examples"][0], "state": [1] * 8}])).replace("[1,", "[1e400,"),
        "finite",
    ),
    (b"[" * 100_000, "ecursion"),
]


@pytest.mark.parametrize(("body", "says"), BAD_JSON, ids=[says for _, says in BAD_JSON])
def test_a_bad_request_by_http_gets_400_and_a_sentence(shared, body, says):
    status, found = predict(shared["http"], body)
    assert status == 400 and found["error"] == "invalid_request" and says in found["message"]
    assert "\n" not in found["message"]


BAD_OBSERVATIONS = [
    ({"state": np.full(STATE, np.nan)}, "not finite"),
    ({"state": [0.0] * 7}, "the state must be 8 numbers"),
    ({"state": ["x"] * STATE}, "the state must be 8 numbers"),
    ({"state": None}, "the state must be 8 numbers"),
    ({"text": " "}, "the instruction is empty"),
    ({"text": 5}, "the instruction must be one text, found int"),
    ({"image": SENT[0][..., 0]}, "must be a uint8 array"),
    ({"image": SENT[0].astype(np.float32)}, "must be a uint8 array"),
    ({"image": None}, "lacks the image"),
]


@pytest.mark.parametrize(("wrong", "says"), BAD_OBSERVATIONS)
@pytest.mark.parametrize("protocol", WEBSOCKETS)
def test_a_bad_observation_gets_a_sentence_and_the_next_is_answered(shared, protocol, wrong, says):
    errors, answers = talk(shared[protocol], protocol, [observation(protocol, **wrong), observation(protocol)])
    assert len(errors) == 1 and says in errors[0] and "\n" not in errors[0] and len(answers) == 1


BAD_MESSAGES = [
    ("text", "msgpack in bytes, found text"),
    (b"\xc1", "does not read as msgpack"),
    (b"", "does not read as msgpack"),
    (msgpack.packb([1, 2]), "must "),
    (b"\x91" * 5000, "does not read as msgpack"),
]


@pytest.mark.parametrize(("message", "says"), BAD_MESSAGES, ids=lambda v: repr(v)[:20])
@pytest.mark.parametrize("protocol", WEBSOCKETS)
def test_a_message_that_is_none_gets_a_sentence_and_the_next_is_answered(shared, protocol, message, says):
    errors, answers = talk(shared[protocol], protocol, [message, observation(protocol)])
    assert len(errors) == 1 and says in errors[0] and len(answers) == 1


@pytest.mark.parametrize("dtype", ["|O", "<c8", "|S9", "x", "(2,2)<f8"])
def test_arrays_hold_plain_numbers_only(dtype):
    array = {b"__ndarray__": True, b"data": bytes(64), b"dtype": dtype, b"shape": [8]}
    with pytest.raises(ValueError, match="an array does not decode"):
        openpi.unpack(msgpack.packb({"observation/state": array}))
    bomb = {b"__ndarray__": True, b"data": b"", b"dtype": "<f8", b"shape": [2**40]}
    with pytest.raises(ValueError, match="an array does not decode"):
        openpi.unpack(msgpack.packb({"observation/state": bomb}))


def test_a_small_file_of_a_huge_picture_is_refused():
    file = io.BytesIO()
    Image.new("1", (6_000, 6_000)).save(file, "PNG")
    assert len(file.getvalue()) < 20_000
    with pytest.raises(ValueError, match="6000 x 6000 pixels, and at most 16777216"):
        decode_picture(file.getvalue())
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n"
    with pytest.raises(ValueError, match="does not decode"):
        decode_picture(script)


def test_other_messages_of_vla_eval_are_refused_by_what_is_wrong(shared):
    other = "vla_eval.benchmarks.simpler.benchmark:X"
    messages = {
        f"is served for LIBERO in vla-eval, and the benchmark {other} is SimplerEnv": vla_eval_message(
            MessageType.HELLO, {"benchmark": other}
        ),
        "a message's type must be one of hello, observation": msgpack.packb({"type": "dance", "payload": {}}),
        "came before the start of an episode": [
            vla_eval_message(MessageType.EPISODE_END, {}),
            observation("vla-eval"),
        ],
        "whole number of 64 bits": vla_eval_message(MessageType.EPISODE_START, {"task": {"seed": 2**63}}),
    }
    errors, answers = talk(shared["vla-eval"], "vla-eval", list(messages.values()))
    assert not answers and len(errors) == len(messages)
    assert [says for says, error in zip(messages, errors, strict=True) if says not in error] == []


def test_an_episode_that_cannot_begin_does_not_go_on_with_the_actions_of_the_last(shared):
    """The client reads the refusal of the start in place of its next answer."""
    start = vla_eval_message(MessageType.EPISODE_START, {"task": {"seed": 2**63}})
    seen = observation("vla-eval")
    errors, answers = talk(shared["vla-eval"], "vla-eval", [seen, start, [seen]])
    assert len(answers) == 1 and ["64 bits" in errors[0], "before the start" in errors[1]] == [True, True]


def test_a_picture_of_one_column_is_mirrored_too(shared):
    column = np.ascontiguousarray(SENT[0][:, :1])
    for protocol in WEBSOCKETS:
        errors, answers = talk(shared[protocol], protocol, [observation(protocol, image=column)])
        assert len(answers) == 1, errors


def talk(running, protocol, messages):
    """Errors and answers in one conversation; of a list of messages only the last gets a reply."""
    errors, answers = [], []
    with connect(f"ws://127.0.0.1:{running.port}", compression=None, max_size=None) as client:
        if protocol == "openpi":
            client.recv()
        else:
            client.send(vla_eval_message(MessageType.EPISODE_START, {"task": TASK}))
        for message in messages:
            for one in message if isinstance(message, list) else [message]:
                client.send(one)
            reply = client.recv(timeout=30)
            if protocol == "openpi":
                (errors if isinstance(reply, str) else answers).append(reply)
            else:
                values = msgpack.unpackb(reply)
                (errors if values["type"] == "error" else answers).append(values["payload"].get("error"))
    return errors, answers


def observation(protocol, image=SENT[0], state=STILL, text="open the drawer"):
    """A message with an observation; without the first image where that is None."""
    if protocol == "openpi":
        values = of_openpi(**{"observation/state": state, "prompt": text, "observation/image": image})
        if image is None:
            del values["observation/image"]
        return openpi.pack(values)
    images = {"agentview": image, "wrist": SENT[1]} if image is not None else {"wrist": SENT[1]}
    return vla_eval_message(MessageType.OBSERVATION, of_vla_eval(images=images, states=state, task_description=text))


def vla_eval_message(kind, payload):
    return pack_message(Message(kind, payload))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_message_over_the_limit_is_refused_and_the_server_goes_on(protocol):
    with serving(protocol, Access(port=0, max_megabytes=0.1)) as running:
        large = np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)
        if protocol == "http":
            status, found = predict(running, bytes(300_000))
            assert status == 400 and "Content-Length between 1 and 104857 bytes, found 300000" in found["message"]
            assert predict(running, of_authors(seed=0))[0] == 200
        else:
            with pytest.raises(ConnectionClosed, match="1009"):
                talk(running, protocol, [observation(protocol, image=large)])
            assert len(talk(running, protocol, [observation(protocol)])[1]) == 1


@pytest.mark.parametrize(
    "header", [{}, {"Content-Length": "0"}, {"Content-Length": "-5"}, {"Transfer-Encoding": "chunked"}]
)
def test_a_body_without_a_length_is_refused(shared, header):
    with socket.create_connection(("127.0.0.1", shared["http"].port), timeout=30) as raw:
        lines = "".join(f"{name}: {value}\r\n" for name, value in header.items())
        raw.sendall(f"POST /predict_action HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode())
        raw.shutdown(socket.SHUT_WR)
        assert raw.makefile("rb").readline().split()[1] == b"400"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_token_is_needed_where_there_is_one(protocol):
    with serving(protocol, Access(port=0, token=TOKEN)) as running:
        good, wrong = {"Authorization": f"Bearer {TOKEN}"}, {"Authorization": "Bearer sesame"}
        assert asked(running, "GET", "/health")[0] == 200
        for headers, status in (({}, 401), (wrong, 401), (good, 200)):
            assert asked(running, "GET", "/metrics", **headers)[0] == status
        if protocol == "http":
            for headers, status in (({}, 401), (wrong, 401), (good, 200)):
                assert predict(running, of_authors(), **headers)[0] == status
            return
        url = f"ws://127.0.0.1:{running.port}"
        for refused in (url, f"{url}/?token=sesame"):
            with pytest.raises(InvalidStatus, match="401"), connect(refused):
                pass
        with connect(f"{url}/?token={TOKEN}"), connect(url, additional_headers={"Authorization": f"Api-Key {TOKEN}"}):
            pass


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_two_servers_on_a_port_are_refused_with_what_to_do(protocol):
    told = r"cannot listen on 127\.0\.0\.1:\d+ .* --port"
    with serving(protocol) as one, pytest.raises(CannotListen, match=told), serving(protocol, Access(port=one.port)):
        pass


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_address_of_another_machine_cannot_be_listened_on(protocol):
    access = Access(host="192.0.2.1", port=0, allow_remote=True)
    with (
        pytest.raises(CannotListen, match=r"192\.0\.2\.1:0 .* give an address of this machine"),
        serving(protocol, access),
    ):
        pass


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_measurements_are_given_as_text_and_as_json(protocol):
    with serving(protocol) as running:
        if protocol == "http":
            predict(running, of_authors())
            for bad in (b"", b"{}", of_authors(seed=[])):
                predict(running, bad)
        else:
            bad = [b"", observation(protocol, image=None), observation(protocol, text="")]
            if protocol == "vla-eval":
                bad[1] = vla_eval_message(MessageType.OBSERVATION, {"images": 3})
            talk(running, protocol, [*bad, observation(protocol)])
        status, text = asked(running, "GET", "/metrics")
        assert status == 200 and b'lamp_answer_seconds{quantile="0.95"}' in text
        values = json.loads(asked(running, "GET", "/metrics", Accept="application/json")[1])
    assert values["answers"] == 1 and values["refused"] == {"invalid": 3} and values["batch_sizes"] == {"1": 1}


@pytest.mark.parametrize("protocol", WEBSOCKETS)
def test_a_client_that_goes_takes_its_request_along(protocol):
    """The request waits for a second client, who comes when the first has gone."""
    with serving(protocol, service={"wait_ms": 60_000, "max_batch": 2}) as running:
        service = running._service
        with service.client():
            with connect(f"ws://127.0.0.1:{running.port}", compression=None, max_size=None) as client:
                if protocol == "vla-eval":
                    client.send(vla_eval_message(MessageType.EPISODE_START, {"task": TASK}))
                client.send(observation(protocol))
                until(lambda: service.values()["waiting"] == 1)
            until(lambda: service.values()["sessions"] == 1)
        until(lambda: service.values()["refused"] == {"cancelled": 1})
        assert service.values()["answers"] == 0
        assert len(talk(running, protocol, [observation(protocol)])[1]) == 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_when_a_server_ends_the_answers_that_are_due_still_go_out(protocol):
    made, found = policy(), []
    with PolicyService(made, max_batch=2, wait_ms=60_000) as service, service.client():
        spoken = make_protocol(protocol)
        running = spoken.start(Served(service, match(made, client_for(made, spoken.clients))), Access(port=0))

        def ask():
            if protocol == "http":
                found.append(predict(running, of_authors(seed=7))[0] == 200)
            else:
                found.append(len(talk(running, protocol, [observation(protocol)])[1]) == 1)

        idle = socket.create_connection(("127.0.0.1", running.port))  # says nothing
        asking = threading.Thread(target=ask)
        asking.start()
        until(lambda: service.values()["waiting"] == 1)
        ending = threading.Thread(target=running.close)
        ending.start()
        until(lambda: refused(running.port))
        answered = service.session(0).act(observed(1))  # a second request: the batch is full
        asking.join(30)
        ending.join(30)
        idle.close()
    assert found == [True] and answered.actions.shape == (CHUNK, 7) and not ending.is_alive()


def until(condition):
    """Wait for what comes soon."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def refused(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return True
    return False


def test_only_so_many_clients_connect():
    with serving("openpi", Access(port=0, max_clients=1)) as running, openpi_client(running) as client:
        with pytest.raises(InvalidStatus, match="503"), connect(f"ws://127.0.0.1:{running.port}"):
            pass
        assert infer(client, of_openpi())["actions"].shape == (CHUNK, 7)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"host": "0.0.0.0"}, "host 0.0.0.0 lets other machines connect, which needs --allow-remote"),
        ({"host": "robot.local"}, "needs --allow-remote"),
        ({"port": 70_000}, "port must lie between 0 and 65535"),
        ({"token": " "}, "the token must be ASCII text"),
        ({"max_megabytes": 0}, "max-megabytes must be above 0"),
    ],
)
def test_where_a_server_listens_is_checked(wrong, says):
    with pytest.raises(ValueError, match=says):
        Access(**wrong)
    for fine in (
        {"host": "::1"},
        {"host": "localhost"},
        {"host": "127.0.0.7"},
        {"host": "0.0.0.0", "allow_remote": True},
    ):
        Access(**fine)


@pytest.mark.parametrize(
    ("config", "seed"),
    [
        ({}, 7),
        ({"task": "x"}, 7),
        ({"task": {"seed": 5, "task_id": 1}}, 5),
        ({"task": {"suite": "libero_spatial", "task_id": 9, "episode_idx": 49}}, 7 + 9049),
        ({"task": {"suite": "libero_10", "task_id": 1}}, 7 + 301_000),
    ],
)
def test_an_episodes_seed_is_the_authors(config, seed):
    assert episode_seed(7, config) == seed


def test_what_is_served_fits_the_policy():
    with PolicyService(policy(guided=False)) as service:
        matched = match(service.policy, client_for(service.policy, make_protocol("http").clients))
        with pytest.raises(ValueError, match="execute must lie between 1 and the policy's 4 actions, found 5"):
            Served(service, matched, execute=5)
        with pytest.raises(ValueError, match="no motion to return"):
            Served(service, matched, motion=True)


def test_the_example_client_acts_at_its_rate():
    """A fast rate, so that the next chunk is late: those steps are counted and nothing is lost."""
    spec = importlib.util.spec_from_file_location("serving_client", ROOT / "examples/serving_client.py")
    assert spec is not None and spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    with serving("openpi", Access(port=0, token=TOKEN)) as running:
        client = example.Client("127.0.0.1", running.port, TOKEN)
        robot = example.Robot(client.metadata["state_size"])
        example.run(client, robot, "open the drawer", rate=500, steps=30, ahead=2)
        assert robot.done + robot.late == 30 and robot.done >= CHUNK
        with pytest.raises(RuntimeError, match="the instruction is empty"):
            example.run(client, robot, "", rate=500, steps=30, ahead=2)
        client.close()
