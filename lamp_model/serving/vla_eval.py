"""A policy as a model server of vla-eval, whose benchmarks and evaluations then run against it."""

from typing import Any

from vla_eval.model_servers.base import SessionContext
from vla_eval.model_servers.predict import PredictModelServer
from vla_eval.specs import IMAGE_RGB, LANGUAGE, RAW, DimSpec

from lamp_model.policy import LampPolicy


class LampModelServer(PredictModelServer):
    """Answers each observation with an action of the chunk that the policy predicted last."""

    def __init__(self, policy: LampPolicy):
        super().__init__(chunk_size=policy.model.config.action.chunk)
        self.policy = policy

    def predict(self, obs: dict[str, Any], ctx: SessionContext) -> dict[str, Any]:
        """See ``PredictModelServer``."""
        images = list(obs["images"].values())
        return {"actions": self.policy.predict(images, obs["task_description"], obs["states"])}

    def get_observation_params(self) -> dict[str, Any]:
        """See ``ModelServer``."""
        return {"send_wrist_image": "wrist" in self.policy.cameras, "send_state": True}

    def get_action_spec(self) -> dict[str, DimSpec]:
        """See ``ModelServer``."""
        return {"actions": RAW}

    def get_observation_spec(self) -> dict[str, DimSpec]:
        """See ``ModelServer``."""
        return {"image": IMAGE_RGB, "state": RAW, "language": LANGUAGE}
