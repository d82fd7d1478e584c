"""``lamp-policy serve``: answer observations with actions, over the network."""

from dataclasses import dataclass

import tyro

from jobs.cli.exit_codes import Failed, UsageError
from jobs.cli.torch_env import let_threads_sleep, quieten


@dataclass(frozen=True)
class Serve:
    """Serve a policy to robots and simulators."""

    run: tyro.conf.Positional[str]
    """A stage 2 run, an exported folder, or a checkpoint of the authors (folder, .pt, or a name on the hub)."""
    port: int = 8000
    """To listen on."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""


def serve_command(args: Serve) -> int:
    """Serve until a signal ends it."""
    let_threads_sleep()
    from vla_eval.model_servers.serve import serve

    from lamp_model.errors import BadCheckpoint
    from lamp_model.policy import load_policy
    from lamp_model.serving.vla_eval import LampModelServer

    quieten()
    try:
        policy = load_policy(args.run, args.device)
    except BadCheckpoint as error:
        raise Failed(str(error)) from error
    except ValueError as error:
        raise UsageError(str(error)) from error
    serve(LampModelServer(policy), host="127.0.0.1", port=args.port)
    return 0
