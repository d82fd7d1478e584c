"""From shards to batches: datasets, order of samples, decoding, normalisation."""
