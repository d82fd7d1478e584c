"""The networks and what they are made of: both experts, flow matching, LoRA, token layout, precision."""
