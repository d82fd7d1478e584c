"""Looking at shards: what they hold, whether they are whole, and how their flow looks over the image."""
