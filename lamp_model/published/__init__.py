"""The authors' published checkpoints: their files, their config, loading them and writing runs in their layout.

A checkpoint is a folder with exactly one ``*.pt`` (a state dictionary of tensors), ``config.yaml``,
``dataset_statistics.json`` and, usually, ``checkpoint_manifest.json`` (name, size and SHA-256 of each file).
"""

CONFIG, STATISTICS, MANIFEST = "config.yaml", "dataset_statistics.json", "checkpoint_manifest.json"
OWN = "lamp"
"""The section of config and manifest that only this project writes: the manifest's lists the files of the folder
``backbone``.
"""
POLICY_PARTS = ("qwen_vl_interface", "motion_head", "motion_guidance", "action_model")
"""The prefixes of the names in a policy's state dictionary; exactly these occur."""
MOTION_PARTS = ("motion_head",)
"""Those of a file of motion weights."""
