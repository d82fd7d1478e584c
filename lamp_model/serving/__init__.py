"""Serves a policy: sessions with random streams of their own, batches over sessions, and the protocols of clients."""
