"""Views of one episode: chosen cameras, some of its frames, chunks of a long one, arrays on disk."""
