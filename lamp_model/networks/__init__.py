"""The networks: both experts, flow matching, LoRA, token layout, precision."""
